"""HTTP requests that the host makes: `hyperlight.http.get("https://api.example.com/v1").json()`."""

from __future__ import annotations

import contextlib
import json as _json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from . import call, call_raw

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Headers", "Response", "delete", "get", "head", "patch", "post", "put", "request"]

_PART = 128 << 10  # bytes that go into one frame
_MOST = 1 << 20  # bytes to ask for; what fits into a frame comes


class Headers(Mapping[str, str]):
    """Headers by name, in any case; several of one name are joined by commas."""

    def __init__(self, pairs: Iterable[Iterable[str]]) -> None:
        self.pairs: list[tuple[str, str]] = list(map(tuple, pairs))  # type: ignore[arg-type]

    def get_all(self, name: str) -> list[str]:
        """The values of every header of this name, such as `Set-Cookie`."""
        return [value for known, value in self.pairs if known.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        if not (values := self.get_all(name)):
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


class Response:
    """The response to a request. Its body is read from the host as it is asked for.

    Attributes:
        status: such as 200.
        url: where it came from, after redirects.
        headers: its headers.
    """

    _handle: int | None = None

    def __init__(self, reply: dict[str, Any], data: bytes) -> None:
        self.status: int = reply["status"]
        self.url: str = reply["url"]
        self.headers = Headers(reply["headers"])
        self._handle = None if reply["end"] else reply["handle"]
        self._part, self._content = data, b""

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    @property
    def content(self) -> bytes:
        """The whole body."""
        if self._handle is None and not self._content:  # all of it came with the head
            self._content, self._part = self._part, b""
        elif self._handle is not None or self._part:
            self._content = b"".join([self._content, *self])
        return self._content

    @property
    def text(self) -> str:
        """The whole body as text, in the charset that the response names, or UTF-8."""
        _, _, charset = self.headers.get("content-type", "").partition("charset=")
        return self.content.decode(charset.partition(";")[0].strip("\"' ") or "utf-8", "replace")

    def json(self) -> Any:
        """The whole body, as JSON."""
        return _json.loads(self.content)

    def __iter__(self) -> Iterator[bytes]:
        """The rest of the body in parts, as they arrive."""
        while self._part or self._handle is not None:
            if self._part:
                part, self._part = self._part, b""
                yield part
            else:
                self._read()

    def _read(self) -> None:
        params = {"handle": self._handle, "size": _MOST}
        try:
            reply, self._part = call_raw("net.response_read", params)
        except BaseException:
            self.close()
            raise
        if reply["end"]:
            self._handle = None

    def close(self) -> None:
        """Give up what has not been read of the body."""
        handle, self._handle, self._part = self._handle, None, b""
        if handle is not None:
            call("net.close", handle=handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Else those that nobody reads would use up the requests in flight.
        if self._handle is not None:
            with contextlib.suppress(Exception):
                self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    data: bytes | str | Iterable[bytes] | None = None,
    json: Any = None,
    credential: str | None = None,
    follow_redirects: bool = True,
) -> Response:
    """Make a request and wait for the head of its response.

    Args:
        method: such as "GET".
        url: an http or https URL.
        headers: of the request.
        data: its body: bytes, text in UTF-8, or bytes to send part by part.
        json: a body to send as JSON, in place of data.
        credential: the name of a credential of the host's.
        follow_redirects: whether to follow redirects to where requests are granted, too.

    Raises:
        HostError: the host function refused or failed; also an OSError where POSIX has a name.
    """
    params: dict[str, Any] = {
        "method": method.upper(),
        "url": url,
        "follow_redirects": follow_redirects,
    }
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers) if headers else []
    if json is not None:
        data = _json.dumps(json)
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("Content-Type", "application/json"))
    # What is usually empty is left out: every member costs time on both sides.
    if pairs:
        params["headers"] = [[name, value] for name, value in pairs]
    if credential is not None:
        params["credential"] = credential
    body = data.encode() if isinstance(data, str) else data
    if body is None:
        return Response(*call_raw("net.request", params))
    if isinstance(body, (bytes, bytearray, memoryview)) and len(body) <= _PART:
        return Response(*call_raw("net.request", {**params, "body": "attached"}, bytes(body)))
    return _stream(params, body)


def _stream(params: dict[str, Any], body: bytes | Iterable[bytes]) -> Response:
    size, parts = None, cast("Iterable[bytes]", body)
    if isinstance(body, (bytes, bytearray, memoryview)):
        size, parts = len(body), [bytes(body)]
    opened, _ = call_raw("net.request", {**params, "body": "streamed", "body_size": size})
    handle = opened["handle"]
    try:
        for part in _frames(parts):
            call_raw("net.request_write", {"handle": handle}, part)
        call("net.request_write", handle=handle, end=True)
    except BaseException:
        call("net.close", handle=handle)
        raise
    return Response(*call_raw("net.response", {"handle": handle}))


def _frames(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _PART):
            yield part[start : start + _PART]


def get(url: str, **options: Any) -> Response:
    """Make a GET request; options as for `request`."""
    return request("GET", url, **options)


def head(url: str, **options: Any) -> Response:
    """Make a HEAD request; options as for `request`."""
    return request("HEAD", url, **options)


def post(url: str, **options: Any) -> Response:
    """Make a POST request; options as for `request`."""
    return request("POST", url, **options)


def put(url: str, **options: Any) -> Response:
    """Make a PUT request; options as for `request`."""
    return request("PUT", url, **options)


def patch(url: str, **options: Any) -> Response:
    """Make a PATCH request; options as for `request`."""
    return request("PATCH", url, **options)


def delete(url: str, **options: Any) -> Response:
    """Make a DELETE request; options as for `request`."""
    return request("DELETE", url, **options)

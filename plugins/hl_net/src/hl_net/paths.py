"""Whether a URL's path lies under a prefix, however a server may come to read it.

Servers differ in how often they decode a path and in what they take for a separator. A path is
therefore looked at in every form that decoding it once, twice and so on gives, and a dot segment in
any of them counts as leading anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

__all__ = ["normal_prefix", "reaches", "stays_within"]

_DECODINGS = 8
_PERCENT_U = re.compile(r"%u([0-9a-f]{4})", re.IGNORECASE)  # an old form some servers still decode
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
# The backslash, and what best-fit conversions turn into a slash or a backslash.
_SEPARATORS = str.maketrans(dict.fromkeys("\\\u2044\u2215\u29f8\u00a5\u20a9", "/"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def normal_prefix(prefix: str) -> str:
    """A rule's path prefix without its trailing slash; "" stands for every path.

    Raises:
        ValueError: it is not absolute, or would itself be read in several ways.
    """
    if not _PREFIX.fullmatch(prefix) or _leads_anywhere(prefix):
        raise ValueError(
            f"a path prefix is absolute, without escapes, dot segments or empty ones: {prefix!r}"
        )
    return prefix.rstrip("/")


def stays_within(path: str, prefix: str) -> bool:
    """Whether every reading of `path` is `prefix` or lies under it; unclear means no."""
    if not prefix:
        return True
    try:
        forms = _forms(path)
    except ValueError:
        return False
    return all(not _leads_anywhere(form) and _under(form, prefix) for form in forms)


def reaches(path: str, prefix: str) -> bool:
    """Whether some reading of `path` is `prefix` or lies under it; unclear means yes."""
    try:
        forms = _forms(path)
    except ValueError:
        return True
    prefix = prefix.casefold()
    return any(_leads_anywhere(form) or _under(_loosest(form), prefix) for form in forms)


def _forms(path: str) -> list[str]:
    """The path as given and after each round of decoding.

    Raises:
        ValueError: decoding gives control characters or no UTF-8, or takes too many rounds.
    """
    forms = [path]
    for _ in range(_DECODINGS):
        decoded = _decode(forms[-1])
        if _CONTROL.search(decoded):
            raise ValueError("a control character")
        if decoded == forms[-1]:
            return forms
        forms.append(decoded)
    raise ValueError("encoded too often")


def _decode(text: str) -> str:
    plain = unquote_to_bytes(text).decode("utf-8")  # UnicodeDecodeError is a ValueError
    plain = _PERCENT_U.sub(lambda match: chr(int(match[1], 16)), plain)
    return unicodedata.normalize("NFKC", plain).translate(_SEPARATORS)


def _leads_anywhere(form: str) -> bool:
    # Some servers cut parameters off a segment first, so "..;x" is ".." to them; and some take
    # trailing blanks or more dots for the same.
    segments = (segment.partition(";")[0].strip() for segment in form.split("/"))
    return any(segment and not segment.strip(".") for segment in segments)


def _under(form: str, prefix: str) -> bool:
    return form == prefix or form.startswith(prefix + "/")


def _loosest(form: str) -> str:
    segments = [segment.partition(";")[0].strip() for segment in form.split("/")]
    return "/" + "/".join(filter(None, segments)).casefold()

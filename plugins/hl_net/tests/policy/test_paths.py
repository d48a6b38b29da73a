"""Path prefixes hold however often and by whatever rules a server decodes a path."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hl_net.paths import normal_prefix, reaches, stays_within
from hypothesis import given
from hypothesis import strategies as st

ESCAPES = [
    "/v1/../admin",
    "/v1/..",
    "/v1/./../admin",
    "/v1/%2e%2e/admin",
    "/v1/%2E%2E/admin",
    "/v1/%2e./admin",
    "/v1/.%2E/admin",
    "/v1/..%2fadmin",
    "/v1/..%2Fadmin",
    "/v1/%2e%2e%2fadmin",
    "/v1%2f..%2fadmin",
    "/v1/..%5cadmin",
    "/v1/..%5Cadmin",
    "/v1/%2e%2e%5cadmin",
    "/v1/%252e%252e/admin",
    "/v1/..%252fadmin",
    "/v1/%25252e%25252e%25252fadmin",
    "/v1/%25%32%65%25%32%65/admin",
    "/v1/..;/admin",
    "/v1/..;x=y/admin",
    "/v1/%2e%2e;/admin",
    "/v1/..%3b/admin",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/%c0%ae%c0%ae%c0%afadmin",
    "/v1/%e0%80%ae%e0%80%ae/admin",
    "/v1/%25u002e%25u002e/admin",
    "/v1/%25u002e%25u002e%25u2215admin",
    "/v1/%ef%bc%8e%ef%bc%8e/admin",
    "/v1/%ef%bc%8e%ef%bc%8e%ef%bc%8fadmin",
    "/v1/%e2%80%a5/admin",
    "/v1/..%00/admin",
    "/v1/%00/../admin",
    "/v1/..%20/admin",
    "/v1/..%09/admin",
    "/v1/.../admin",
    "/v1//../../admin",
    "/v1/a//../../../admin",
    "/v1/a/b/../../../admin",
    "/V1/admin",
    "/v1x/admin",
    "/v1%2e/admin",
    "/v1;/admin",
    "//v1/admin",
    "/admin",
    "/%761/../admin",
    "/" + "%25" * 20 + "2e%2e/v1",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leaves_a_granted_prefix(path: str) -> None:
    assert not stays_within(path, "/v1")


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/a", "/v1/a%2fb", "/v1/100%25", "/v1//a", "/v1/a.b", "/v1/..a", "/v1/a;b"],
)
def test_ordinary_paths_stay_within(path: str) -> None:
    assert stays_within(path, "/v1")


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/x",
        "/ADMIN",
        "/%61dmin",
        "/%2561dmin",
        "//admin",
        "/admin;x",
        "/x/../admin",
        "/x/..%2fadmin",
        "/%ef%bd%81dmin",
        "/x/%c0%ae%c0%ae/admin",
        "/%5cadmin",
    ],
)
def test_no_path_evades_a_denied_prefix(path: str) -> None:
    assert reaches(path, "/admin")


@pytest.mark.parametrize("path", ["/", "/administrator", "/x/admin", "/adm%69"])
def test_denied_prefix_denies_nothing_else(path: str) -> None:
    assert not reaches(path, "/admin")


@given(
    st.lists(st.sampled_from(["..", ".", "a", "v1", "%2e", "%2f", "%5c", "%25", "/", ";", "\\"]))
)
def test_a_path_within_a_prefix_never_decodes_to_one_outside(parts: list[str]) -> None:
    """Decoding by hand, step by step, with dot segments resolved at every step."""
    path = "/v1/" + "".join(parts)
    if stays_within(path, "/v1"):
        for _ in range(12):
            resolved: list[str] = []
            for segment in path.replace("\\", "/").split("/"):
                if segment == "..":
                    del resolved[-1:]
                elif segment != ".":
                    resolved.append(segment)
            assert "/".join(resolved).startswith("/v1")
            path = unquote(path)


@pytest.mark.parametrize("prefix", ["v1", "/a/../b", "/a//b", "/%61", "/a?b", "/a b", "/.", "/é"])
def test_ambiguous_prefix_is_no_prefix(prefix: str) -> None:
    with pytest.raises(ValueError, match="path prefix"):
        normal_prefix(prefix)


def test_trailing_slash_of_a_prefix_means_nothing() -> None:
    assert normal_prefix("/v1/") == "/v1"
    assert normal_prefix("/") == ""

"""Special-purpose addresses: every range is recognised in every form."""

from __future__ import annotations

import ipaddress

import pytest
from hl_net.addresses import canonical, parse_address, special_block


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "this network"),  # noqa: S104 (that is the point)
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "shared by a carrier"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"),
        ("192.0.0.192", "metadata"),
        ("192.0.0.8", "protocol assignments"),
        ("198.18.0.1", "benchmarking"),
        ("192.0.2.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:a9fe:a9fe", "metadata"),
        ("::127.0.0.1", "not global unicast"),
        ("64:ff9b::7f00:1", "loopback, through NAT64"),
        ("64:ff9b:1::1", "translation to IPv4"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:1::", "protocol assignments"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fd12::1", "private"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "not global unicast"),
    ],
)
def test_special_address_is_recognised(text: str, kind: str) -> None:
    block = special_block(ipaddress.ip_address(text))
    assert block is not None
    assert block.kind == kind


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_public_address_is_not_special(text: str) -> None:
    assert special_block(ipaddress.ip_address(text)) is None


def test_mapped_address_is_the_ipv4_address() -> None:
    assert canonical(parse_address("::ffff:10.1.2.3")) == ipaddress.ip_address("10.1.2.3")


@pytest.mark.parametrize("text", ["127.1", "0177.0.0.1", "0x7f.0.0.1", "fe80::1%lo", "", "a"])
def test_unusual_forms_are_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)

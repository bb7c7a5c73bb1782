"""The client's address, and what a client can do to it: nothing."""

from ipaddress import ip_network

import pytest

from apps.ratelimits.policy.client_ip import client_address, in_networks

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::5]:443", "2001:db8::/64"),
        ("fd00::1%eth0", "203.0.113.9", "203.0.113.9"),
        ("::ffff:198.51.100.1", "", "198.51.100.1"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("", "203.0.113.9", "unknown"),
        ("10.0.0.1", "9" * 1_000_000, "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_are_believed(peer, forwarded, expected):
    assert client_address(peer, forwarded, PROXIES) == expected


def test_a_client_lies_in_its_networks():
    networks = (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))
    assert in_networks("203.0.113.9", networks)
    assert in_networks("2001:db8:5::/64", networks)
    assert not in_networks("203.0.114.9", networks)
    assert not in_networks("unknown", networks)
    assert not in_networks("203.0.113.9", ())

"""The client's address, and what a client can do to it: nothing."""

import tracemalloc
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.client_ip import (
    UNKNOWN,
    client_address,
    in_networks,
    parse_address,
    parse_span,
    remembering,
)

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
NETWORKS = (parse_span("10.0.0.0/8"), parse_span("fd00::/8"))


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
    address_of = remembering(PROXIES, 64)
    assert [address_of(peer, forwarded) for _ in range(2)] == [expected] * 2


def test_what_is_remembered_is_of_its_own_proxies_and_prefix():
    behind, alone, wider = remembering(PROXIES, 64), remembering((), 64), remembering(PROXIES, 48)
    for _ in range(2):
        assert behind("10.0.0.1", "2001:db8:1:2::3") == "2001:db8:1:2::/64"
        assert alone("10.0.0.1", "2001:db8:1:2::3") == "10.0.0.1"
        assert wider("10.0.0.1", "2001:db8:1:2::3") == "2001:db8:1::/48"
        assert behind("10.0.0.1", "2001:db8:1:9::3") == "2001:db8:1:9::/64"


def test_what_clients_send_does_not_fill_the_memory():
    address_of = remembering(PROXIES, 64)
    tracemalloc.start()
    try:
        for number in range(20_000):
            address_of("10.0.0.1", f"{'1.1.1.1, ' * 200}, {number}, 203.0.113.9")
            address_of("10.0.0.1", f"{number}, 203.0.113.9")
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 3_000_000


def test_a_client_lies_in_its_networks():
    networks = (parse_span("203.0.113.0/24"), parse_span("2001:db8::/32"))
    assert in_networks("203.0.113.9", networks)
    assert in_networks("2001:db8:5::/64", networks)
    assert not in_networks("203.0.114.9", networks)
    assert not in_networks("unknown", networks)
    assert not in_networks("203.0.113.9", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9\t", "203.0.113.9"),
        ('"203.0.113.9"', "203.0.113.9"),
        ("203.0.113.9:65535", "203.0.113.9"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("203.0.113", None),
        ("203.0.113.256", None),
        ("203.0.113.09", None),
        ("٢٠٣.0.113.9", None),
        ("3405803785", None),
        ("203.0.113.9/32", None),
        ("2001:db8:::1", None),
        ("[]:443", None),
        ("203.0.113.9\x00", None),
        ("\ud800", None),
        ("unix:/run/iota.sock", None),
        ("1" * 100_000, None),
        (":" * 100_000, None),
    ],
)
def test_an_address_is_read_in_every_form_that_proxies_write(text, expected):
    parsed = parse_address(text)
    assert (str(parsed) if parsed else None) == expected


def test_nobody_is_believed_where_no_proxy_is_trusted():
    assert client_address("10.0.0.1", "203.0.113.9", ()) == "10.0.0.1"


def test_an_address_invented_to_look_like_a_proxy_hides_nobody():
    """The client sends a chain of trusted addresses; its own is appended by the real proxy."""
    assert client_address("10.0.0.1", "8.8.8.8, 10.0.0.5, 203.0.113.9", PROXIES) == "203.0.113.9"


def test_a_chain_of_proxies_alone_is_counted_by_its_first():
    assert client_address("10.0.0.1", "10.0.0.3, 10.0.0.2", PROXIES) == "10.0.0.3"


def test_a_trusted_peer_is_known_by_its_mapped_address_too():
    assert client_address("::ffff:10.0.0.1", "203.0.113.9", PROXIES) == "203.0.113.9"


def test_a_mapped_client_is_the_same_client():
    assert client_address("10.0.0.1", "::ffff:203.0.113.9", PROXIES) == "203.0.113.9"


def test_a_subscriber_has_one_identity_whatever_its_prefix_lets_it_choose():
    every = {client_address(f"2001:db8:1:2::{n:x}", "", ()) for n in range(1, 200)}
    assert every == {"2001:db8:1:2::/64"}
    assert client_address("2001:db8:1:3::1", "", ()) not in every
    assert client_address("2001:db8:1:2::1", "", (), ipv6_prefix=56) == "2001:db8:1::/56"
    assert client_address("2001:db8::1", "", (), ipv6_prefix=128) == "2001:db8::1/128"


def test_what_is_cut_off_an_oversize_header_is_the_clients_end_of_it():
    padding = "8.8.8.8, " * 10_000
    assert client_address("10.0.0.1", padding + "203.0.113.9", PROXIES) == "203.0.113.9"
    assert client_address("10.0.0.1", padding + "203.0.113.9, 10.0.0.2", PROXIES) == "203.0.113.9"


def test_more_hops_than_any_site_has_end_at_a_proxy():
    hops = ", ".join(["203.0.113.9"] + ["10.0.0.2"] * 100)
    assert client_address("10.0.0.1", hops, PROXIES) == "10.0.0.2"


@given(st.text(max_size=60), st.text(alphabet='0123456789abcdef.:[]%", \t/x', max_size=60))
def test_no_header_raises_or_makes_an_identity_that_is_no_address(peer, forwarded):
    for first, second in ((peer, forwarded), ("10.0.0.1", forwarded), ("10.0.0.1", peer)):
        address = client_address(first, second, PROXIES)
        assert address == UNKNOWN or ip_network(address)
        in_networks(address, NETWORKS)


@given(st.text(alphabet="0123456789abcdef.:, ", max_size=80))
def test_nothing_left_of_the_clients_own_address_matters(invented):
    assert client_address("10.0.0.1", f"{invented}, 203.0.113.9", PROXIES) == "203.0.113.9"


def test_a_network_narrower_than_the_identity_means_all_of_the_identity():
    assert in_networks("2001:db8::/64", (parse_span("2001:db8::5/128"),))
    assert not in_networks("2001:db8::/64", (parse_span("2001:db8:0:1::5/128"),))


def test_versions_are_not_mixed():
    assert not in_networks("203.0.113.9", (parse_span("::/0"),))
    assert not in_networks("2001:db8::/64", (parse_span("0.0.0.0/0"),))
    assert in_networks("203.0.113.9", (parse_span("::/0"), parse_span("0.0.0.0/0")))


CLIENTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: str(ip_network((address, 64), strict=False))),
)
NETS = st.builds(
    lambda address, short: ip_network((address, address.max_prefixlen - short), strict=False),
    st.one_of(st.ip_addresses(), st.sampled_from([ip_address("::"), ip_address("0.0.0.0")])),
    st.integers(0, 32),
)


@given(CLIENTS, st.lists(NETS, max_size=4), st.booleans())
def test_a_client_lies_in_the_networks_that_its_own_overlaps(client, networks, near):
    own = ip_network(client)
    if near:
        networks.append(own.supernet(prefixlen_diff=3))
    expected = any(net.version == own.version and net.overlaps(own) for net in networks)
    assert in_networks(client, [parse_span(str(net)) for net in networks]) is expected

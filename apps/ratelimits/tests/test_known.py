"""The filter of identities: written by the script in Redis, read here."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.storage import scripts
from apps.ratelimits.storage.known import FIRST_LAYER, GROWTH, Known, packed

KEYS = ("came", "own", "known", "over")


def digests(name: str, count: int) -> list[str]:
    return [digest(b"k", name, str(i)) for i in range(count)]


def write(client, admitted=(), arrived=(), budget=10**6, keep_s=100) -> list[int]:
    source = scripts.load("identities").source
    words = (budget, keep_s, packed(admitted), packed(arrived))
    return client.eval(source, len(KEYS), *KEYS, *words)


@pytest.fixture
def client(each_redis):
    with each_redis.client() as made:
        made.flushdb()
        yield made


def test_a_digest_is_15_bytes():
    assert [len(packed(digests("a", count))) for count in (0, 1, 2, 200)] == [0, 15, 30, 3_000]


def test_without_bits_nobody_is_known():
    assert digests("a", 1)[0] not in Known()
    assert not Known()
    assert digests("a", 1)[0] not in Known(b"\0" * 5)


def test_all_that_were_written_are_found_and_few_others(client):
    """Over three layers, of which the last is begun."""
    ours = digests("ours", FIRST_LAYER * (1 + GROWTH) + 1_000)
    for at in range(0, len(ours), 200):
        came, own = write(client, ours[at : at + 200])
    assert came == own == pytest.approx(len(ours), rel=0.04)
    bits = client.get("known")
    known = Known(bits)
    assert all(who in known for who in ours)
    assert sum(who in known for who in digests("strangers", 100_000)) < 100
    # Two full layers and as much of the third as a bit was set in.
    assert 4 * FIRST_LAYER * (1 + GROWTH) < len(bits) <= 4 * FIRST_LAYER * (1 + GROWTH + GROWTH**2)


def test_a_limit_that_few_come_to_costs_little(client):
    write(client, digests("few", 100))
    assert sum(client.memory_usage(key) for key in KEYS[:3]) < 45_000


def test_who_only_came_is_counted_and_not_known(client):
    (one, other) = digests("a", 2)
    assert write(client, [one], [other]) == [2, 1]
    known = Known(client.get("known"))
    assert (one in known, other in known) == (True, False)
    assert write(client, [one], [other]) == [2, 1]


def test_since_when_it_is_over_is_noted_once(client):
    assert write(client, digests("a", 2), budget=2)
    assert client.get("over") is None
    write(client, digests("a", 3), budget=2)
    since = int(client.get("over"))
    assert abs(since - client.time()[0]) <= 1
    client.set("over", since - 50)
    write(client, digests("a", 4), budget=2)
    assert int(client.get("over")) == since - 50


def test_everything_ends(client):
    write(client, digests("a", 3), digests("b", 3), budget=1, keep_s=77)
    assert {key: client.ttl(key) for key in KEYS} == dict.fromkeys(KEYS, 77)


@pytest.mark.parametrize("count", [1_000, 50_000])
def test_the_estimate_is_near(client, count):
    """Standard error 0.81 %: five times that never happens."""
    came = digests("came", count)
    for at in range(0, count, 2_000):
        estimate, _ = write(client, (), came[at : at + 2_000])
    assert estimate == pytest.approx(count, rel=5 * 0.0081)

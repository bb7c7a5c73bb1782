"""What many users share: counted in bins, added up over workers, judged at the end."""

import random

import pytest

from loadtests.tests.simulated import Server, promise
from loadtests.together import BIN_S, Together, judge, merged

ALGORITHMS = ("token_bucket", "fixed_window", "sliding_window", "sliding_log")


def played(promised, server, seed, number=3_000, per_s=60.0, workers=3):
    """Requests of many users that overlap; in several records, as workers keep them."""
    chance = random.Random(seed)
    records = [Together() for _ in range(workers)]
    requests, now_s = [], 1.7e9 + chance.random() * 100
    for _ in range(number):
        now_s += chance.expovariate(per_s)
        took_s = chance.choice((0.002, 0.02, 0.3)) * chance.random()
        requests.append((now_s + took_s * chance.random(), now_s, now_s + took_s))
    denials = 0
    for decided_s, sent_s, answered_s in sorted(requests):
        allowed, _ = server.asked(decided_s)
        record = chance.choice(records)
        (record.admitted if allowed else record.denied)(sent_s, answered_s)
        denials += not allowed
    return merged(record.message() for record in records), denials


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_honest_server_is_never_accused(algorithm):
    promised = promise(algorithm, 100, 3, burst=60)
    for seed in range(5):
        found, denials = played(promised, Server(promised), seed)
        assert denials > 100
        assert judge(promised, found, 0.01) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_much_more_than_promised_is_seen(algorithm):
    promised = promise(algorithm, 100, 3, burst=60)
    found, _ = played(promised, Server(promised, generous=40), 1)
    assert "promised at most" in judge(promised, found, 0.01)[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_much_less_than_promised_is_seen(algorithm):
    promised = promise(algorithm, 100, 3, burst=60)
    found, _ = played(promised, Server(promised, generous=-40), 1)
    assert any("denied a request that was due" in text for text in judge(promised, found, 0.01))


def test_a_quota_of_everyone_is_seen_to_the_request_where_the_window_is_clear():
    promised = promise("fixed_window", 100, 60)
    for number, wrong in ((100, 0), (101, 1)):
        found = Together()
        for place in range(number):
            found.admitted(1_700_000_010 + place * 0.1, 1_700_000_010 + place * 0.1)
        assert len(judge(promised, found, 0.01)) == wrong
    found = Together()
    for place in range(99):
        found.admitted(1_700_000_010 + place * 0.1, 1_700_000_010 + place * 0.1)
    found.denied(1_700_000_030, 1_700_000_030)
    assert len(judge(promised, found, 0.01)) == 1
    # Had one more been under way, it would have been due.
    found.unanswered(1_700_000_010, 1_700_000_011)
    assert judge(promised, found, 0.01) == []


def test_a_message_is_of_lists_alone_and_adds_up():
    one = Together()
    one.admitted(10.0, 10.0 + 2 * BIN_S)
    one.denied(11.0, 11.0)
    one.unanswered(12.0, 12.5)
    both = merged([one.message(), one.message()])
    assert both.admissions == 2
    assert sum(both.denials.values()) == 2
    assert sum(both.counts["possibly_sent"].values()) == 2

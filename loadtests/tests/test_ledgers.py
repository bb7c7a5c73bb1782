"""An honest server is never accused; one that gives or takes a single request is."""

import pytest

from loadtests.ledgers import ledger
from loadtests.tests.simulated import Server, promise, traffic

ALGORITHMS = ("token_bucket", "fixed_window", "sliding_window", "sliding_log")


def judged(promised, server, exchanges, skew_s=0.0):
    """What the ledger says of each answer; and how often it was denied."""
    found, said, denials = ledger(promised, skew_s), [], 0
    for one in exchanges:
        allowed, remaining = server.asked(one.decided_s)
        denials += not allowed
        if allowed:
            said.append(found.admitted(one.sent_s, one.answered_s, remaining))
        else:
            said.append(found.denied(one.sent_s, one.answered_s))
    return [text for text in said if text], denials


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("quota", "window_s", "burst"), [(10, 10, 10), (1, 3, 1), (100, 7, 30)])
def test_an_honest_server_is_never_accused(algorithm, quota, window_s, burst):
    promised = promise(algorithm, quota, window_s, burst=burst)
    denied = 0
    for seed in range(8):
        exchanges = traffic(seed, 600, 2 * quota / window_s)
        wrong, denials = judged(promised, Server(promised), exchanges)
        assert wrong == []
        denied += denials
    assert denied > 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_request_more_than_promised_is_seen(algorithm):
    promised = promise(algorithm)
    wrong, _ = judged(promised, Server(promised, generous=1), traffic(1, 400, 20))
    assert any("10 are promised at most" in text or "promised at most" in text for text in wrong)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_request_less_than_promised_is_seen(algorithm):
    promised = promise(algorithm)
    wrong, _ = judged(promised, Server(promised, generous=-1), traffic(1, 400, 20))
    assert any("denied a request that was due" in text for text in wrong)


@pytest.mark.parametrize("algorithm", ["token_bucket", "fixed_window", "sliding_log"])
def test_a_wrong_number_of_remaining_units_is_seen(algorithm):
    promised = promise(algorithm)
    found, server = ledger(promised, 0.0), Server(promised)
    (one,) = traffic(1, 1, 1)
    _, remaining = server.asked(one.decided_s)
    assert "remain" in found.admitted(one.sent_s, one.answered_s, remaining + 1)


def test_a_server_whose_clock_is_off_within_the_stated_skew_is_not_accused():
    promised = promise("fixed_window", 10, 2)
    for seed in range(8):
        late = traffic(seed, 400, 10)
        server = Server(promised)
        shifted = [type(one)(one.sent_s, one.decided_s + 0.05, one.answered_s) for one in late]
        wrong, _ = judged(promised, server, shifted, skew_s=0.06)
        assert wrong == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_request_without_an_answer_may_have_been_counted(algorithm):
    promised = promise(algorithm)
    found, start_s = ledger(promised, 0.0), 1.7e9
    for number in range(9):
        assert found.admitted(start_s + number / 100, start_s + number / 100, None) == ""
    found.unanswered(start_s + 0.1, start_s + 0.1)
    assert found.denied(start_s + 0.2, start_s + 0.2) == ""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_it_the_same_denial_was_not_due(algorithm):
    promised = promise(algorithm)
    found, start_s = ledger(promised, 0.0), 1.7e9
    for number in range(9):
        found.admitted(start_s + number / 100, start_s + number / 100, None)
    assert "was due to be admitted" in found.denied(start_s + 0.2, start_s + 0.2)


def test_a_million_seconds_of_a_fast_bucket_stay_exact():
    promised = promise("token_bucket", 1_000, 1, burst=1_000)
    wrong, _ = judged(promised, Server(promised), traffic(3, 20_000, 5_000))
    assert wrong == []

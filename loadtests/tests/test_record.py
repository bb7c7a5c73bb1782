"""What workers send adds up in the master, through the form that messages have."""

import msgpack

from loadtests.edits import Edit, Seen
from loadtests.record import MOST_KINDS, Record
from loadtests.together import Together


def full() -> Record:
    record = Record(lags_ms={3: 10})
    record.tally("limit").admitted = 5
    record.tally("limit").identities = 1
    record.is_wrong("limit denied unduly", "an example")
    record.note("a note")
    record.together["together", "everyone"] = Together()
    record.together["together", "everyone"].admitted(10.0, 10.1)
    record.seen["edited"] = Seen([Edit(5, 1.0, 2.0)], {(5, 1, 2): 3})
    return record


def test_two_workers_add_up():
    whole = Record()
    for _ in range(2):
        whole.add(msgpack.unpackb(msgpack.packb(full().message()), strict_map_key=False))
    assert whole.tally("limit").admitted == 10
    assert whole.wrong == {"limit denied unduly": (2, "an example")}
    assert whole.notes == {"a note": 2}
    assert whole.lags_ms == {3: 20}
    assert whole.together["together", "everyone"].admissions == 2
    assert whole.seen["edited"].quotas == {(5, 1, 2): 6}
    assert whole.seen["edited"].edits == [Edit(5, 1.0, 2.0)] * 2


def test_the_percentile_of_lateness():
    record = Record(lags_ms={0: 98, 50: 1, 900: 1})
    assert (record.lag_ms(50), record.lag_ms(99), record.lag_ms(100)) == (0, 50, 900)
    assert Record().lag_ms(99) == 0


def test_a_server_that_is_wrong_in_ever_new_ways_fills_no_memory():
    record = Record()
    for number in range(1_000):
        record.is_wrong(f"about {number}", "x" * 1_000)
    assert len(record.wrong) == MOST_KINDS + 1
    assert sum(number for number, _ in record.wrong.values()) == 1_000

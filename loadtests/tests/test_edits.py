"""An edit is law within a second: which quota an answer may name, and when."""

from loadtests.edits import Edit, Seen, judge


def seen(*named):
    found = Seen([Edit(200, 10.0, 10.2), Edit(100, 20.0, 20.1)])
    for quota, at_s in named:
        found.named(quota, at_s, at_s + 0.01)
    return found


def test_before_during_and_after_an_edit():
    assert judge("limit", 100, seen((100, 9.0), (200, 10.1), (100, 11.1), (200, 11.3))) == []
    assert judge("limit", 100, seen((200, 19.9), (200, 21.0), (100, 20.1), (100, 99.0))) == []


def test_the_old_quota_a_second_after_the_save():
    (text,) = judge("limit", 100, seen((100, 11.5), (100, 12.0), (200, 12.0)))
    assert "2 answers named a quota of 100" in text


def test_a_quota_that_nobody_has_saved_yet():
    assert judge("limit", 100, seen((200, 9.5)))
    assert judge("limit", 100, seen((300, 15.0)))


def test_workers_add_up():
    whole = Seen()
    whole.add(seen((100, 9.0)).message())
    whole.add(Seen(quotas={(100, 180, 180): 4}).message())
    assert len(whole.edits) == 2
    assert sum(whole.quotas.values()) == 5

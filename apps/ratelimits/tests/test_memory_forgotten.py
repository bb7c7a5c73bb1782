"""Denials that are forgotten with an edit, a reset and a loss of Redis, in every process."""

from __future__ import annotations

import time

from .elsewhere import Elsewhere, check, digests, make


def test_a_reset_in_one_process_is_in_force_in_another_within_a_second(engine):
    make()
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        elsewhere.check("192.0.2.1")
        assert elsewhere.check("192.0.2.1")[:2] == (False, 1)
        elsewhere.check("192.0.2.2")
        assert elsewhere.check("192.0.2.2")[:2] == (False, 2)
        engine.reset(digests(engine, "192.0.2.1"))
        began = time.monotonic()
        while not elsewhere.check("192.0.2.1")[0]:
            assert time.monotonic() < began + 1
            time.sleep(0.01)
        assert elsewhere.check("192.0.2.2")[0] is False
    finally:
        elsewhere.stop()


def test_an_edit_forgets_what_was_denied(engine):
    limit = make()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed
    assert not check(engine, "192.0.2.1").allowed
    limit.quota = 10
    limit.save()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed


def test_what_was_denied_is_forgotten_where_redis_has_lost_everything(engine, redis_client):
    make()
    engine.refresh()
    check(engine, "192.0.2.1")
    assert not check(engine, "192.0.2.1").allowed
    redis_client.flushall()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed


def test_a_process_that_comes_second_forgets_too_where_redis_has_lost_everything(
    engine, redis_client
):
    make()
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        elsewhere.check("192.0.2.1")
        assert elsewhere.check("192.0.2.1") == (False, 1, 0)
        redis_client.flushall()
        engine.publish()
        deadline = time.monotonic() + 1
        while not elsewhere.check("192.0.2.1")[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        elsewhere.stop()

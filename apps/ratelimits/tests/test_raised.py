"""Signals that a request raised."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.signals import user_logged_out, user_login_failed
from django.dispatch import Signal

from apps.ratelimits import conf, raised

voucher_refused = Signal()
OWN = f"{__name__}.voucher_refused"


def fail():
    user_login_failed.send(sender=None, credentials={}, request=None)


def test_only_what_is_raised_within_is_seen():
    fail()
    with raised.watched() as names:
        assert names == set()
        fail()
    user_logged_out.send(sender=None, user=None, request=None)
    assert names == {"user_login_failed"}


async def test_a_thread_of_the_request_is_seen_and_another_request_is_not():
    async def request(does):
        with raised.watched() as names:
            await sync_to_async(does)()
            await asyncio.sleep(0.01)
        return names

    failed, quiet = await asyncio.gather(request(fail), request(lambda: None))
    assert (failed, quiet) == ({"user_login_failed"}, set())


def test_a_sites_own_signal_is_known_by_its_path(settings):
    settings.IOTA_RATELIMITS = replace(conf.current(), counted_signals=(OWN,))
    raised.connect()
    try:
        with raised.watched() as names:
            voucher_refused.send(sender=None, name="taken by the sender's own argument")
        assert names == {OWN}
    finally:
        voucher_refused.disconnect(dispatch_uid=f"ratelimits.{OWN}")


def test_what_is_no_signal_is_refused():
    with pytest.raises(ImportError, match="is no django"):
        raised.load(f"{__name__}.fail")

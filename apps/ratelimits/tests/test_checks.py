"""System checks: a wrong wiring is named at start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.ratelimits import checks, conf


@pytest.mark.parametrize(
    ("validator", "found"),
    [
        ("", []),
        ("apps.ratelimits.tests.test_caller.whose_key", []),
        ("no.such.module", ["ratelimits.E003"]),
        ("iota.views.no_such_function", ["ratelimits.E003"]),
    ],
)
def test_a_validator_that_cannot_be_imported_is_named(settings, validator, found):
    settings.IOTA_RATELIMITS = replace(conf.current(), key_validator=validator)
    messages = checks.check_key_validator(None)
    assert [message.id for message in messages] == found
    assert all(validator in message.msg and message.hint for message in messages)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("apps.ratelimits.signals.limits_changed", []),
        ("no.such.signal", ["ratelimits.E004"]),
        ("apps.ratelimits.conf.current", ["ratelimits.E004"]),
    ],
)
def test_a_signal_that_cannot_be_heard_is_named(settings, path, found):
    settings.IOTA_RATELIMITS = replace(conf.current(), counted_signals=(path,))
    messages = checks.check_counted_signals(None)
    assert [message.id for message in messages] == found
    assert all(path in message.msg and message.hint for message in messages)

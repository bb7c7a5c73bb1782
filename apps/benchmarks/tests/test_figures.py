from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.benchmarks.templatetags.figures import ago, figure, lasted


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00123456, "s", "0.00123 s"),
        (12.3456, "us", "12.3 us"),
        (123.456, "", "123"),
        (1234567.0, "bytes", "1,234,567 bytes"),
        (100.0, "us", "100 us"),
        (99.97, "us", "100 us"),
        (2.0, "us", "2 us"),
        (0, "us", "0 us"),
        (-45.67, "ms", "-45.7 ms"),
        (None, "us", ""),
    ],
)
def test_three_digits_that_mean_something(value, unit, text):
    assert figure(value, unit) == text


def test_times_are_relative_with_the_exact_one_on_hover():
    at = timezone.now() - timedelta(hours=3, minutes=2)
    said = str(ago(at))
    assert "3\xa0hours ago" in said
    assert f'title="{timezone.localtime(at):%d %b %Y, %H:%M:%S}' in said
    assert "just now" in str(ago(timezone.now()))
    assert ago(None) == ""


def test_how_long_it_took():
    start = timezone.now()
    assert lasted(start, start + timedelta(seconds=65)) == "1 min 5 s"
    assert lasted(start, start) == "0 s"

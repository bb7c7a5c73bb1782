"""What a view's named limits do once it has answered, failed or streams: charges and slots."""

from __future__ import annotations

import asyncio

import pytest
from django.test import AsyncClient

from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)

from . import named_views
from .named_views import SEEN, limit, statuses

pytestmark = pytest.mark.urls(named_views.__name__)

__all__ = ["limit"]


@pytest.mark.parametrize("prefix", ["answering", "aanswering"])
def test_a_limit_that_counts_by_response_gives_the_others_back(limit, client, prefix):
    limit(quota=1, counts="status", statuses="404")
    assert statuses(client, f"/{prefix}/200", 3) == [200] * 3
    assert client.get(f"/{prefix}/200")["RateLimit"].startswith('"named";r=1')
    # The exception is raised through the decorator, and becomes 404 further out.
    assert statuses(client, f"/{prefix}/404", 2) == [404, 429]


def test_an_exception_is_given_back_where_its_status_does_not_count(limit, client):
    limit(quota=1, counts="status", statuses="404")
    assert statuses(client, "/answering/403", 2) == [403, 403]
    assert statuses(client, "/answering/200", 1) == [200]


def test_a_slot_is_held_until_the_end_of_the_stream(limit, client):
    limit(name="slots", quota=1, algorithm="concurrency")
    streaming = client.get("/streamed")
    assert client.get("/streamed").status_code == 429
    assert b"".join(streaming.streaming_content) == b"ab"
    again = client.get("/streamed")
    assert again.status_code == 200
    again.close()  # A stream that nobody reads.
    assert client.get("/streamed").status_code == 200


async def test_a_slot_is_held_until_the_end_of_an_async_stream(limit):
    await asyncio.to_thread(limit, name="slots", quota=1, algorithm="concurrency")
    client = AsyncClient()
    streaming = await client.get("/astreamed")
    assert (await client.get("/astreamed")).status_code == 429
    assert [part async for part in streaming] == [b"a", b"b"]
    assert (await client.get("/astreamed")).status_code == 200


def test_a_slot_is_held_while_a_template_is_rendered_and_freed_by_a_mistake(limit, client):
    limit(name="slots", quota=1, algorithm="concurrency")
    SEEN.clear()
    for _ in range(2):
        assert client.get("/templated").content == b"ok"
    assert SEEN == [1, 1]
    client.raise_request_exception = False
    assert statuses(client, "/broken", 3) == [500] * 3
    assert statuses(client, "/mistemplated", 3) == [500] * 3

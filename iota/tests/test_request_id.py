"""A request's name, in its response and in its log lines; sync and async."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from django.http import HttpResponse

from iota.logs import LineFormatter
from iota.request_id import RequestIdMiddleware, request_id

MADE = re.compile(r"[0-9a-f]{16}")


def test_one_is_made_for_each_request(client):
    first, second = (client.get("/healthz")["X-Request-Id"] for _ in range(2))
    assert MADE.fullmatch(first)
    assert MADE.fullmatch(second)
    assert first != second


@pytest.mark.parametrize("given", ["7", "a" * 64, "Root-1_2.3"])
def test_a_well_formed_one_is_kept(client, given):
    assert client.get("/healthz", HTTP_X_REQUEST_ID=given)["X-Request-Id"] == given


@pytest.mark.parametrize(
    "given", ["", "a" * 65, "a b", "a\r\nSet-Cookie: x=y", "a\n", "ä", "٣", '{"a"}', "a" * 100_000]
)
def test_any_other_is_replaced(client, given):
    assert MADE.fullmatch(client.get("/healthz", HTTP_X_REQUEST_ID=given)["X-Request-Id"])


@pytest.mark.parametrize("path", ["/nowhere", "/metrics", "/static/nothing.css"])
def test_an_answer_that_refuses_has_one_too(engine, client, path):
    response = client.get(path, HTTP_X_REQUEST_ID="mine")
    assert response.status_code >= 400
    assert response["X-Request-Id"] == "mine"


def test_it_holds_while_the_request_is_answered_and_no_longer(rf):
    seen = []

    def view(request):
        seen.append(request_id.get())
        return HttpResponse()

    RequestIdMiddleware(view)(rf.get("/", HTTP_X_REQUEST_ID="mine"))
    assert (seen, request_id.get()) == (["mine"], "")

    def broken(request):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        RequestIdMiddleware(broken)(rf.get("/", HTTP_X_REQUEST_ID="mine"))
    assert request_id.get() == ""


async def test_requests_on_one_loop_keep_their_own(rf):
    async def view(request):
        await asyncio.sleep(0.01)
        return HttpResponse(request_id.get())

    middleware = RequestIdMiddleware(view)
    names = [f"r{number}" for number in range(20)]
    responses = await asyncio.gather(
        *(middleware(rf.get("/", HTTP_X_REQUEST_ID=name)) for name in names)
    )
    assert [one.content.decode() for one in responses] == names
    assert [one["X-Request-Id"] for one in responses] == names


async def test_a_sync_view_under_asgi_has_it(async_client):
    response = await async_client.get("/healthz", headers={"X-Request-Id": "mine"})
    assert response["X-Request-Id"] == "mine"


def test_an_error_is_logged_with_it(engine, client, settings):
    settings.ROOT_URLCONF = "tests.site_urls"
    said = []

    class Keep(logging.Handler):
        def emit(self, record):
            said.append(self.format(record))

    keep = Keep()
    keep.setFormatter(LineFormatter())
    logger = logging.getLogger("django.request")
    logger.addHandler(keep)
    client.raise_request_exception = False
    try:
        client.get("/api/broken", HTTP_X_REQUEST_ID="mine")
    finally:
        logger.removeHandler(keep)
    (line,) = said
    assert " ERROR django.request [mine] Internal Server Error: /api/broken\n" in line

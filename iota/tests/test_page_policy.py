"""The Content-Security-Policy of each kind of answer."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from apps.ratelimits.models import RateLimit
from iota.page_policy import ADMIN_PATH

HEADER = "Content-Security-Policy"


def directives(response) -> dict[str, list[str]]:
    parts = [part.split() for part in response[HEADER].split("; ")]
    return {name: values for name, *values in parts}


def test_a_public_page_runs_files_of_ours_and_nothing_else(engine, client):
    said = directives(client.get("/"))
    assert said["script-src"] == said["style-src"] == ["'self'"]
    assert said["default-src"] == said["base-uri"] == said["frame-ancestors"] == ["'none'"]
    assert not re.search("unsafe|data:|https?:|[*]", str(said))


def test_the_page_of_a_denial_names_its_script_and_its_style_by_a_new_nonce_each_time(
    engine, client
):
    RateLimit.objects.create(name="one", quota=1, path_kind="exact", path="/api/test")
    client.get("/api/test")
    seen = set()
    for _ in range(2):
        denied = client.get("/api/test", headers={"Accept": "text/html"})
        assert denied.status_code == 429
        nonces = re.findall(r'<(?:script|style) nonce="([^"]+)">', denied.content.decode())
        said = directives(denied)
        assert said["script-src"] == said["style-src"] == ["'self'", f"'nonce-{nonces[0]}'"]
        assert nonces[0] == nonces[1]
        assert "unsafe" not in denied[HEADER]
        seen.add(nonces[0])
    assert len(seen) == 2


def test_only_the_admin_compiles_text_and_styles_by_attribute(engine, client):
    said = directives(client.get("/admin/login/"))
    assert said["script-src"] == ["'self'", "'unsafe-eval'"]
    assert said["style-src"] == ["'self'", "'unsafe-inline'"]
    assert reverse("admin:index") == ADMIN_PATH


@pytest.mark.parametrize("path", ["/api/test", "/healthz", "/readyz"])
def test_what_is_no_page_has_none(engine, client, path):
    assert HEADER not in client.get(path)


async def test_the_event_loop_gives_the_same(engine, async_client):
    said = directives(await async_client.get("/admin/login/"))
    assert said["script-src"] == ["'self'", "'unsafe-eval'"]
    assert HEADER not in await async_client.get("/api/test")


def test_a_page_that_is_not_there_has_the_strict_one(engine, client):
    missing = client.get("/nowhere")
    assert missing.status_code == 404
    assert directives(missing)["script-src"] == ["'self'"]


def test_each_answer_says_what_browsers_may_not_guess(engine, client):
    answer = client.get("/")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == answer["Cross-Origin-Opener-Policy"] == "same-origin"

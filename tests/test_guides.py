"""The guides' examples, as they stand in them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from django.contrib.auth.models import User

from apps.ratelimits import used_in_code
from apps.ratelimits.models import RateLimit

from .sites import running

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "docs" / "guides"


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)


@pytest.fixture
def shop(monkeypatch):
    """A module made of the guide's examples."""
    module = ModuleType("guide_of_limits_in_code")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for number, block in enumerate(blocks("in-code.md", "python")):
        exec(compile(block, f"in-code.md, example {number}", "exec"), vars(module))  # noqa: S102
    yield module
    for places in used_in_code._used.values():
        for place in [place for place in places if place[0].startswith(module.__name__)]:
            del places[place]


@pytest.fixture
def limits(engine):
    """Two of each, of all limits that the guide names."""
    made = re.findall(
        r'(?:rate_limit|check|peek|concurrency)\("(\w+)"|"(\w+)"[,\])]',
        "".join(blocks("in-code.md", "python")),
    )
    names = sorted({name for pair in made for name in pair if name} - {"dispatch"})
    for name in names:
        algorithm = "concurrency" if name == "conversions" else "fixed_window"
        quota = 1 if name == "conversions" else 10 if name == "uploads" else 2
        RateLimit.objects.create(
            name=name, quota=quota, algorithm=algorithm, window_unit=3600, path_kind="named"
        )
    engine.refresh()
    return names


def test_the_examples_of_limits_in_code_do_what_is_said(shop, limits, rf):
    assert {"exports", "reports", "uploads", "logins", "invoices", "imports"} <= set(limits)
    assert [shop.export(rf.get("/")).status_code for _ in range(3)] == [200, 200, 429]
    assert shop.Export.as_view()(rf.get("/")).status_code == 429
    assert shop.Export.as_view()(rf.get("/", REMOTE_ADDR="203.0.113.1")).status_code == 200

    body = {"data": b"x" * 4_500_000, "content_type": "application/octet-stream"}
    assert [shop.upload(rf.post("/", **body)).status_code for _ in range(3)] == [200, 200, 429]
    attempts = [{"username": "Ada"}, {"username": "ada"}, {"username": "ADA"}, {"username": "bob"}]
    got = [shop.log_in(rf.post("/", data)).status_code for data in attempts]
    assert got == [200, 200, 429, 200]

    view = shop.Invoices.as_view()
    elsewhere = {"REMOTE_ADDR": "203.0.113.2"}
    assert view(rf.get("/?months=3", **elsewhere)).status_code == 429
    assert view(rf.get("/?months=2", **elsewhere)).status_code == 200
    assert view(rf.get("/", **elsewhere)).status_code == 429


def test_the_examples_without_a_view_do_what_is_said(shop, limits):
    ada = User.objects.create_user("ada")
    assert [shop.send_reminder(ada) for _ in range(2)] == ["sent", "sent"]
    assert re.fullmatch(r"again in \d+ s", shop.send_reminder(ada))
    assert shop.import_rows(7, ["a", "b"]) == 2
    assert shop.import_rows(7, ["a"]) == 0
    assert shop.convert(7) == "converted"
    with shop.concurrency("conversions", 7):
        assert shop.convert(7) == "too many at once: 1"


async def test_the_examples_on_an_event_loop_do_what_is_said(shop, limits, async_rf):
    assert [await shop.on_message("tea") for _ in range(3)] == [True, True, False]
    request = async_rf.get("/", REMOTE_ADDR="203.0.113.3")
    assert (await shop.report(request)).status_code == 200
    await asyncio.sleep(0)


def test_the_question_of_a_service_is_answered(tmp_path):
    (example,) = blocks("other-services.md", "sh")
    with running(tmp_path, {"IOTA_UNKNOWN_LIMIT": "allow"}) as (site, _):
        site.start()
        command = example.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}")
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ran.stdout == "200\n", ran.stderr


def test_what_is_shown_of_the_proxies_is_what_the_endpoint_reads():
    traefik, envoy = (yaml.safe_load(block) for block in blocks("other-services.md", "yaml"))
    address = traefik["http"]["middlewares"]["rate-limits"]["forwardAuth"]["address"]
    assert address.endswith("/api/check/traefik")
    service = envoy["http_filters"][0]["typed_config"]["http_service"]
    assert service["path_prefix"] == "/api/check/envoy"
    (nginx,) = blocks("other-services.md", "nginx")
    shipped = (ROOT / "deploy" / "nginx" / "example.conf").read_text()
    for line in nginx.splitlines():
        code = line.partition("#")[0].strip()
        assert code in shipped, code

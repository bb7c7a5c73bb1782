"""docker-compose.yml's services together: what each is there for, without it, and at its end."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest
import requests

from tests.connections import kept_open
from tests.topology.processes import Topology

pytestmark = pytest.mark.topology
LIMIT = """
from apps.ratelimits.models import RateLimit
RateLimit.objects.filter(name={name!r}).delete()
RateLimit.objects.create(name={name!r}, **{changes!r})
"""
SEND = """
from celery import current_app
for number in range({count}):
    current_app.send_task("tests.slow", args=({folder!r}, number, {seconds}))
"""
PARTS = 40
QUICK = "/stream/wsgi/0"
PART_BYTES = 65_536


def eventually(wanted: Callable[[], object], within_s: float, what: str) -> float:
    """How long it took."""
    began_s = time.monotonic()
    while not wanted():
        assert time.monotonic() < began_s + within_s, f"not within {within_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began_s


def get(topology: Topology, path: str) -> requests.Response:
    return requests.get(topology.url + path, timeout=10)


def ready(topology: Topology) -> tuple[int, dict[str, str]]:
    answer = get(topology, "/readyz")
    return answer.status_code, answer.json()


def make_limit(topology: Topology, name: str, **changes: object) -> None:
    topology.manage("shell", "--verbosity", "0", "-c", LIMIT.format(name=name, changes=changes))


def remove_limit(topology: Topology, name: str) -> None:
    code = "from apps.ratelimits.models import RateLimit\n"
    code += f"RateLimit.objects.filter(name={name!r}).delete()"
    topology.manage("shell", "--verbosity", "0", "-c", code)


def test_the_site_answers_and_is_ready(topology):
    status, state = ready(topology)
    assert (status, state["database"], state["redis"]) == (200, "ok", "ok")
    assert state["ruleset"] == "ok"
    assert "Your standing" in get(topology, "/").text
    answer = get(topology, "/api/test")
    assert answer.json() == {"ok": True}
    assert '"api-per-address"' in answer.headers["RateLimit"]


def test_connections_that_are_kept_open_keep_nobody_out(topology):
    with kept_open(topology.ports["web"], 1_300):
        for _ in range(20):
            assert get(topology, "/readyz").status_code == 200


def test_files_are_named_by_content_and_kept_for_good(topology):
    (style,) = re.findall(r'href="(/static/[^"]+)"', get(topology, "/").text)
    assert re.fullmatch(r"/static/iota/home\.[0-9a-f]{12}\.css", style)
    answer = get(topology, style)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] in ("gzip", "br")


def test_what_every_answer_says_to_browsers(topology):
    answer = get(topology, "/admin/login/")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "SameSite=Lax" in cookie
    # As its proxy asks for somebody who came by HTTPS.
    by_https = {"X-Forwarded-Proto": "https"}
    secure = requests.get(topology.url + "/", headers=by_https, timeout=10)
    assert "max-age=31536000" in secure.headers["Strict-Transport-Security"]


def test_check_deploy_has_nothing_to_say(topology):
    with_tls = {"IOTA_SECURE_SSL_REDIRECT": "true"}
    said = topology.manage("check", "--deploy", "--fail-level", "DEBUG", **with_tls)
    assert said == "System check identified no issues (0 silenced).\n"


def test_an_edit_is_in_force_within_a_second(topology):
    make_limit(topology, "deploy-two", quota=2, path_kind="exact", path="/api/test")
    began_s = time.monotonic()
    eventually(lambda: get(topology, "/api/test").status_code == 429, 1.5, "a denial")
    denied = get(topology, "/api/test")
    assert denied.status_code == 429, f"after {time.monotonic() - began_s:.2f} s"
    assert denied.json()["violated-policies"] == ["deploy-two"]
    remove_limit(topology, "deploy-two")
    eventually(lambda: get(topology, "/api/test").status_code == 200, 1.5, "no denial")


def test_beat_and_the_workers_do_what_is_periodic(topology):
    """The watch samples every ten seconds, and usage is rolled up by the other worker."""
    eventually(lambda: ready(topology)[1]["watch"] == "ok", 60, "a sample")
    assert topology.postgres is not None

    def rolled_up() -> bool:
        with topology.postgres.connect() as connection:
            query = "SELECT count(*) FROM ratelimits_limitrollup"
            return connection.execute(query).fetchone()[0] > 0

    eventually(rolled_up, 150, "usage in the database")


def test_tasks_go_by_rabbitmq(topology, tmp_path):
    """Sent while no worker takes them they lie there, and are done once one does."""
    assert topology.running["worker"].stop() == 0
    send(topology, tmp_path, 3, 0.0)
    with broker(topology) as channel:
        waiting = channel.queue_declare(queue="celery", passive=True)
        assert waiting.message_count >= 3
        assert waiting.consumer_count == 0
    start_slow_worker(topology)
    eventually(lambda: len(done(tmp_path)) == 3, 60, "tasks are done")


def test_readyz_says_what_is_away(topology):
    valkey = topology.running["valkey"]
    valkey.stop()
    try:
        status, state = ready(topology)
        assert (status, state["redis"]) == (200, "degraded")
        # Each limit's own policy decides meanwhile.
        assert get(topology, "/api/test").status_code == 200
    finally:
        valkey.start()
    eventually(lambda: ready(topology)[1]["redis"] == "ok", 15, "the counters are back")
    eventually(
        lambda: '"api-per-address"' in get(topology, "/api/test").headers.get("RateLimit", ""),
        15,
        "limits are published again",
    )


def test_without_the_database_limits_hold_and_the_site_is_not_ready(topology):
    topology.postgres.stop(remove=False)
    try:
        status, state = ready(topology)
        assert (status, state["database"]) == (503, "unavailable")
        eventually(lambda: ready(topology)[1]["redis"] == "ok", 15, "Redis answers in time")
        answer = get(topology, "/api/test")
        assert answer.status_code == 200
        assert '"api-per-address"' in answer.headers["RateLimit"]
        # Not a reason to restart it: the image's own health check asks for less.
        assert topology.is_healthy("web")
    finally:
        topology.postgres.start()
    eventually(lambda: ready(topology)[0] == 200, 15, "the database is back")


def test_without_its_broker_the_site_serves_and_the_workers_come_back_by_themselves(
    topology, tmp_path
):
    rabbitmq = topology.running["rabbitmq"]
    assert rabbitmq.stop() == 0
    try:
        assert ready(topology)[0] == 200
        assert get(topology, "/api/test").status_code == 200
    finally:
        topology.start_service("rabbitmq")
        topology.wait_until_healthy("rabbitmq")
    start_slow_worker(topology)
    send(topology, tmp_path, 1, 0.0)
    eventually(lambda: done(tmp_path) == {0}, 60, "a task is done")
    assert topology.running["monitoring"].alive()
    assert topology.running["beat"].alive()


def test_who_asks_when_the_watch_is_over_is_told(topology):
    topology.running["monitoring"].stop()
    try:
        eventually(lambda: ready(topology)[1]["watch"] == "late", 90, "the watch is late")
        assert ready(topology)[0] == 200
    finally:
        topology.running["monitoring"].start()
    eventually(lambda: ready(topology)[1]["watch"] == "ok", 90, "the watch is back")


def test_a_site_that_ends_finishes_its_requests_and_gives_back_what_it_holds(topology, counters):
    make_limit(
        topology,
        "deploy-slots",
        algorithm="concurrency",
        quota=50,
        window_amount=600,
        window_unit=1,
        path_kind="exact",
        path=f"/stream/wsgi/{PARTS}",
    )
    leased = {"algorithm": "fixed_window", "quota": 1_000_000, "window_unit": 86_400, "lease": 500}
    make_limit(topology, "deploy-leased", **leased, path_kind="exact", path=QUICK)
    time.sleep(1)
    number = ids(topology)["deploy-leased"]
    with requests.Session() as session:

        def serve(count: int) -> int:
            answers = [session.get(topology.url + QUICK, timeout=10) for _ in range(count)]
            return sum(answer.status_code == 200 for answer in answers)

        served = serve(120)
        assert served == 120
        for _ in range(5):
            if ahead := taken(topology, number) - served:
                break
            # The last of a block was used just now: the next one takes another.
            served += serve(1)
    assert ahead > 0, "nothing was taken ahead"
    answers: list[int] = []

    def stream() -> None:
        answer = requests.get(f"{topology.url}/stream/wsgi/{PARTS}", timeout=60)
        answers.append(len(answer.content))

    streams = [threading.Thread(target=stream) for _ in range(6)]
    for one in streams:
        one.start()
    eventually(lambda: held(counters) == len(streams), 10, "all hold a slot")
    web = topology.running["web"]
    web.terminate()
    for one in streams:
        one.join()
    assert answers == [PARTS * PART_BYTES] * len(streams)
    web.process.wait(web.service.stop_grace_s)
    assert web.process.returncode == 0, web.said()[-2_000:]
    with pytest.raises(requests.ConnectionError):
        get(topology, "/healthz")
    try:
        assert held(counters) == 0
        # What each process counted is in Redis, and no process is among those that serve.
        counted = counters.hgetall("iota:usage")
        assert int(counted[f"limit:{number}:allowed"]) == served
        assert taken(topology, number) == served
        assert set(counters.hkeys("iota:processes")) <= {"swept"}
    finally:
        web.start()
        topology.wait_until_healthy("web")
        remove_limit(topology, "deploy-slots")
        remove_limit(topology, "deploy-leased")


def test_a_worker_that_ends_finishes_its_task_and_leaves_the_others(topology, tmp_path):
    worker = start_slow_worker(topology)
    send(topology, tmp_path, 5, 3.0)
    begun = lambda: {int(path.stem) for path in tmp_path.glob("*.begun")}  # noqa: E731
    eventually(lambda: len(begun()) == 2, 60, "two are under way")
    assert worker.stop() == 0, worker.said()[-2_000:]
    finished = done(tmp_path)
    assert finished == begun()
    assert len(finished) == 2
    start_slow_worker(topology)
    eventually(lambda: len(done(tmp_path)) == 5, 60, "the others are done by the next")


def test_migrating_again_changes_nothing_and_two_at_once_do_no_harm(topology):
    command = [str(topology.app / "deploy/entrypoint.sh"), "migrate"]
    environment = topology.running["migrate"].environment
    both = [
        subprocess.Popen(command, cwd=topology.app, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [one.wait(60) for one in both] == [0, 0]
    assert ready(topology)[0] == 200


def test_no_process_wrote_a_secret_or_an_error_of_ours_into_its_log(topology):
    passwords = [
        path.read_text().strip()
        for path in (topology.folder / "secrets").iterdir()
        if path.name.endswith(("_password", "_key", "_token"))
    ]
    assert len(passwords) > 5
    for name, running in topology.running.items():
        said = running.said()
        assert [one for one in passwords if one in said] == [], name
    lines = [line for line in topology.running["web"].said().splitlines() if line.startswith("{")]
    assert all(json.loads(line) for line in lines)


def held(counters) -> int:
    """Slots that are in use, by Redis' own word."""
    now_s, now_us = counters.time()
    now = now_s * 1_000_000 + now_us
    return sum(counters.zcount(key, now, "+inf") for key in counters.scan_iter("iota:c:*"))


def ids(topology: Topology) -> dict[str, int]:
    with topology.postgres.connect() as connection:
        return dict(connection.execute("SELECT name, id FROM ratelimits_ratelimit").fetchall())


def taken(topology: Topology, number: int) -> int:
    """Units of the limit that are counted for this machine's address."""
    code = f"""
from apps.ratelimits import conf
from apps.ratelimits.engine import get_engine
from apps.ratelimits.policy.facts import RequestFacts
engine = get_engine()
engine.refresh()
facts = RequestFacts("GET", "{QUICK}", "127.0.0.1")
decision = engine.check(engine.plan(engine.candidates(facts), facts), charge=False)
(verdict,) = [one for one in decision.verdicts if one.rule.id == {number}]
print(verdict.rule.rate.quota - verdict.standing.remaining)
"""
    return int(topology.manage("shell", "--verbosity", "0", "-c", code).split()[-1])


@contextmanager
def broker(topology: Topology):
    with (
        kombu.Connection(topology.secret("celery_broker_url")) as connection,
        connection.channel() as channel,
    ):
        yield channel


def send(topology: Topology, folder: Path, count: int, seconds: float) -> None:
    code = SEND.format(count=count, folder=str(folder), seconds=seconds)
    topology.manage("shell", "--verbosity", "0", "-c", code)


def done(folder: Path) -> set[int]:
    return {int(path.stem) for path in folder.glob("*.done")}


def start_slow_worker(topology: Topology):
    """The worker of Compose's, which knows the slow task too."""
    worker = topology.running["worker"]
    if "--include" not in worker.command:
        if worker.alive():
            assert worker.stop() == 0
        worker.command += ["--include", "tests.slow_tasks"]
    if not worker.alive():
        worker.start()
        topology.wait_until_healthy("worker")
    return worker

"""What must not be found: secrets and people in the log of a site, people in Redis."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
import requests

from apps.ratelimits.storage.traffic import unpack
from tests.databases import migrate
from tests.servers import RedisProcess
from tests.sites import ROOT, SiteProcess, environment, manage

PASSWORD = "redis-password-7f3a"
SECRETS = {
    "SECRET_KEY": "django-secret-key-0123456789-0123456789-abcdef",
    "IOTA_IDENTITY_KEY": "identity-key-0123456789-0123456789-abcdefghij",
    "CELERY_BROKER_URL": "redis://:broker-password-91bc@127.0.0.1:1/0",
    "DJANGO_SUPERUSER_PASSWORD": "right-password-55aa",
}
KEY = "Kq8-api-key-of-ada-wxyz"
ADDRESS = "203.0.113.77"
IPV6 = "2001:db8:77:88::9"
USER = "ada-lovelace"
COOKIE = "forged0session0cookie0abcdef01234"
HIDDEN = [
    PASSWORD,
    *SECRETS.values(),
    "broker-password-91bc",
    KEY,
    ADDRESS,
    "2001:db8:77:88",
    USER,
    COOKIE,
    "wrong-guess-123",
]
LIMITS = """
from apps.ratelimits.models import RateLimit
for name, counted_by, header in (
    ("by-address", "address", ""), ("by-user", "user", ""), ("by-session", "session", ""),
    ("by-key", "header", "X-Api-Key"), ("together", "everyone", ""),
    ("all", "address,user,header", "X-Api-Key"),
):
    for algorithm in ("token_bucket", "fixed_window", "sliding_log", "concurrency"):
        RateLimit.objects.create(
            name=f"{name}-{algorithm}", counted_by=counted_by, header=header, algorithm=algorithm,
            quota=500, window_unit=3600,
        )
RateLimit.objects.create(name="few", quota=1, window_unit=3600, path_kind="exact", path="/api/test")
RateLimit.objects.create(name="of", quota=1, window_unit=3600, path_kind="prefix", path="/people/")
"""


def whose_key(header: str, value: str) -> str | None:
    return USER if value == KEY else None


@pytest.fixture(scope="module", params=["wsgi", "asginl"])
def secretive(request, tmp_path_factory) -> Iterator[tuple[SiteProcess, RedisProcess]]:
    """A site whose every part has a secret, which logs all that it can."""
    folder: Path = tmp_path_factory.mktemp("site")
    url = f"redis://:{PASSWORD}@127.0.0.1:{{port}}/0"
    redis = RedisProcess("valkey", ["--requirepass", PASSWORD], url)
    site = None
    try:
        redis.start()
        variables = environment(
            folder,
            redis.url,
            IOTA_LOG_LEVEL="DEBUG",
            IOTA_TRUSTED_PROXIES="127.0.0.0/8",
            IOTA_KEY_VALIDATOR="tests.test_secrets.whose_key",
            IOTA_REDIS_TIMEOUT_MS="300",
            **SECRETS,
        )
        options = {"interface": request.param, "settings": "tests.site_settings"}
        site = SiteProcess(folder, variables, **options)
        migrate(site.environment)
        manage(site.environment, "createsuperuser", "--noinput", "--username", USER, "--email", "")
        manage(site.environment, "shell", "--verbosity", "0", "-c", LIMITS)
        yield site.start(), redis
    finally:
        if site is not None:
            site.stop()
        redis.stop()


def traffic(site: SiteProcess) -> set[int]:
    """Of everybody and everything that the site may know, right and wrong."""
    session = requests.Session()
    session.headers.update({"X-Forwarded-For": ADDRESS, "X-Api-Key": KEY})
    seen = set()

    def ask(path: str, **options) -> requests.Response | None:
        with contextlib.suppress(requests.ConnectionError):
            answer = session.get(f"{site.url}{path}", timeout=20, **options)
            seen.add(answer.status_code)
            return answer
        return None

    login = f"{site.url}/admin/login/"
    ask("/admin/login/")
    for password in ("wrong-guess-123", SECRETS["DJANGO_SUPERUSER_PASSWORD"]):
        token = session.cookies.get("csrftoken")
        form = {"username": USER, "password": password, "csrfmiddlewaretoken": token}
        session.post(login, form, timeout=20, allow_redirects=False)
    for path in ("/", "/api/test", "/api/test", "/api/broken", "/readyz", "/nowhere", "/admin/"):
        ask(path)
    for path in (f"/people/{USER}", f"/people/{USER}?of={USER}", f"/people/{USER}/{ADDRESS}"):
        ask(path)
    ask("/api/test", headers={"X-Forwarded-For": IPV6})
    ask("/api/test", headers={"Host": f"{USER}.example"})
    ask("/api/test", headers={"X-Api-Key": f"{KEY}-not-known"})
    requests.get(f"{site.url}/api/test", cookies={"sessionid": COOKIE}, timeout=20)
    return seen


def assert_hidden(text: str) -> None:
    assert [hidden for hidden in HIDDEN if hidden in text] == []


def test_the_log_holds_no_secret_and_nobody(secretive):
    site, redis = secretive
    assert traffic(site) >= {200, 429, 500, 400}
    redis.pause()
    try:
        traffic(site)
    finally:
        redis.resume()
    redis.kill()
    traffic(site)
    # Back with another password: what the site sends is refused.
    other = RedisProcess(
        "valkey", ["--requirepass", "another"], "redis://:another@127.0.0.1:{port}/0"
    )
    other.port = redis.port
    other.start()
    try:
        traffic(site)
    finally:
        other.stop()
        redis.start()
    said = site.said()
    # The errors were logged, or nothing is proven.
    assert "the view's own mistake" in said
    assert "Traceback" in said
    assert_hidden(said)


@pytest.mark.parametrize(
    "wrong",
    [
        {"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:nonsense/0"},
        {"REDIS_URL": f"redsi://:{PASSWORD}@127.0.0.1:6379/0"},
        {"DATABASE_URL": f"postgres://ada:{PASSWORD}@127.0.0.1:1/iota"},
        {"DATABASE_URL": f"oracle://ada:{PASSWORD}@127.0.0.1:1/iota"},
        {"CELERY_BROKER_URL": f"http://:{PASSWORD}@127.0.0.1/0"},
        {"SECRET_KEY": "too-short-secret"},
        {"IOTA_IDENTITY_KEY": "too-short-secret"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_site_that_cannot_start_names_no_secret(wrong, tmp_path):
    variables = {**environment(tmp_path, "redis://127.0.0.1:1/0"), **SECRETS, **wrong}
    for arguments in (["check"], ["migrate"], ["ratelimit", "disable", "--all"]):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert_hidden(done.stdout + done.stderr)
        assert "too-short-secret" not in done.stdout + done.stderr


def test_worker_and_beat_name_no_secret(tmp_path):
    """With a broker that is not there, at their most talkative."""
    variables = {**environment(tmp_path, f"redis://:{PASSWORD}@127.0.0.1:1/0"), **SECRETS}
    variables |= {"IOTA_LOG_LEVEL": "DEBUG"}
    migrate(variables)
    for part in (["worker", "--concurrency", "1"], ["beat", "--pidfile", ""]):
        command = [sys.executable, "-m", "celery", "--app", "iota", *part, "--loglevel", "DEBUG"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                process.wait(7)
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        said = (tmp_path / "log").read_text(errors="replace")
        assert "127.0.0.1:1" in said
        assert_hidden(said)


def unpacked(row: tuple[bytes, dict[bytes, bytes]]) -> object:
    """What is compressed is looked into."""
    number, fields = row
    return number, {name: unpack(value) or value for name, value in fields.items()}


def everything(redis: RedisProcess) -> Iterator[tuple[bytes, bytes]]:
    """Every key of the limiter with all that it holds, as bytes."""
    readers = {
        b"string": lambda client, key: client.get(key),
        b"hash": lambda client, key: repr(client.hgetall(key)).encode(),
        b"zset": lambda client, key: repr(client.zrange(key, 0, -1, withscores=True)).encode(),
        b"stream": lambda client, key: repr([unpacked(row) for row in client.xrange(key)]).encode(),
        b"list": lambda client, key: repr(client.lrange(key, 0, -1)).encode(),
        b"set": lambda client, key: repr(client.smembers(key)).encode(),
    }
    with redis_py.Redis.from_url(redis.url) as client:
        for key in client.scan_iter("iota:*"):
            yield key, readers[client.type(key)](client, key) or b""


def test_redis_holds_nobody(secretive):
    """Keys and values, after traffic of users, addresses, sessions and keys."""
    site, redis = secretive
    with redis_py.Redis.from_url(redis.url) as client:
        client.flushall()
    manage(site.environment, "shell", "--verbosity", "0", "-c", PUBLISH)
    assert traffic(site) >= {200, 429}
    session_keys = re.findall(r"'(\w{32})'", manage(site.environment, "shell", "-c", SESSIONS))
    assert session_keys
    deadline = time.monotonic() + 10  # Of what is sent once a second.
    while True:
        held = list(everything(redis))
        kinds = {key[: len("iota:b:")] for key, _ in held}
        if {b"iota:d:", b"iota:de"} <= kinds and len(
            dict(held).get(b"iota:{traffic}", b"")
        ) > 1_000:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # There is something to look at: buckets, the logs beside them, who was denied, and requests.
    assert kinds >= {b"iota:b:", b"iota:l:"}
    assert b"/~" in dict(held)[b"iota:denied"]
    for hidden in [*HIDDEN, *session_keys]:
        for key, value in held:
            assert hidden.encode() not in key + value
    # An address is no less an address as a number, or as its bytes.
    number = int.from_bytes(bytes(map(int, ADDRESS.split("."))), "big")
    for shape in (number.to_bytes(4, "big"), number.to_bytes(4, "little"), str(number).encode()):
        assert not any(shape in key + value for key, value in held)


PUBLISH = "from apps.ratelimits.engine import get_engine; get_engine().publish()"
SESSIONS = """
from django.contrib.sessions.models import Session
print([session.pk for session in Session.objects.all()])
"""


def test_this_process_has_none_of_it_in_its_environment():
    """Else a leak of the environment would not be seen."""
    assert not any(hidden in value for hidden in HIDDEN for value in os.environ.values())

"""A service that is not Django behind Debian's nginx, limited by what staff save: the files of
deploy/nginx as they are shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from .nginx import NGINX, NginxProcess
from .sites import ROOT, manage, running

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx")

SHIPPED = ROOT / "deploy" / "nginx"
WITHIN_S = 1.0
LIMIT = """
import time
from apps.ratelimits.models import RateLimit
limit, _ = RateLimit.objects.update_or_create(name="service", defaults=dict(
    quota={quota}, algorithm="fixed_window", window_unit=3600, path_kind="prefix", path="/paid/",
    on_failure="{on_failure}", mode="{mode}"))
print(time.time())
"""


class _Service(BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = int(self.headers.get("X-Answer", "200"))
        body = json.dumps({"path": self.path, "method": self.command}).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    # Less than nginx waits for an answer, and enough for a slow machine.
    variables = {"IOTA_REDIS_TIMEOUT_MS": "250"}
    with running(tmp_path_factory.mktemp("site"), variables) as (site, redis):
        site.start()
        yield site, redis


def as_shipped(folder: Path, iota: int, service: int) -> str:
    """The example, with the ports of this test in place of its own."""
    for name in ("rate-limits.conf", "rate-limited.conf"):
        shutil.copy(SHIPPED / name, folder)
    text = (SHIPPED / "example.conf").read_text()
    for ours, theirs in (
        ("127.0.0.1:8000", f"127.0.0.1:{iota}"),
        ("127.0.0.1:9000", f"127.0.0.1:{service}"),
        ("listen 8080", "listen 127.0.0.1:{port}"),
        ("shop.example.com", "shop.example.com 127.0.0.1"),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, theirs)
    return text


@pytest.fixture
def nginx(tmp_path, site, service):
    server = NginxProcess(tmp_path, as_shipped(tmp_path, site[0].port, service)).start()
    yield server
    server.stop()


@pytest.fixture
def limit(site):
    """Saved by another process, as the admin saves it, and with nothing counted yet."""
    running_site, redis = site

    def save(quota: int, *, on_failure: str = "local", mode: str = "enforce") -> float:
        edit = LIMIT.format(quota=quota, on_failure=on_failure, mode=mode)
        saved = manage(running_site.environment, "shell", "--verbosity", "0", "-c", edit)
        return float(saved)

    with redis.client() as client:
        for key in client.scan_iter("*b:*"):
            client.delete(key)
    return save


class Watch:
    """Asks all the time which policy answers: the command that saves takes its time to end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(0.02):
                began = time.time()
                answer = session.get(self._url, timeout=5)
                self._seen.append((began, answer.headers.get("RateLimit-Policy", "")))

    def turned(self, since: float, policy: str) -> float:
        """Seconds from the edit until the first question that this policy answered."""
        deadline = time.time() + 10
        while time.time() < deadline:
            for began, said in list(self._seen):
                if began >= since and said == policy:
                    return began - since
            time.sleep(0.02)
        raise AssertionError(f"never {policy}")


def turned(url: str, status: int, since: float, **options) -> float:
    """Seconds from an edit until the first answer of this status."""
    while time.time() - since < 10:
        began = time.time()
        if requests.get(url, timeout=5, **options).status_code == status:
            return began - since
        time.sleep(0.02)
    raise AssertionError(f"never {status}")


def test_a_limit_in_the_admin_protects_a_service_within_a_second(nginx, limit):
    url = f"{nginx.url}/paid/report?full=1"
    turned(url, 200, limit(quota=1, mode="off"))  # Whichever test was the last.
    assert requests.get(url, timeout=5).json() == {"path": "/paid/report?full=1", "method": "GET"}
    with Watch(url) as watch:
        assert watch.turned(limit(quota=2), '"service";q=2;w=3600') <= WITHIN_S
    turned(url, 429, time.time())
    denied = requests.get(url, timeout=5)
    assert denied.json()["title"] == "Too many requests"
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert 0 < int(denied.headers["Retry-After"]) <= 3600
    assert denied.headers["RateLimit"].startswith('"service";r=0')
    assert denied.headers["RateLimit-Policy"] == '"service";q=2;w=3600'
    assert denied.headers["Cache-Control"] == "no-store"
    assert requests.get(f"{nginx.url}/free", timeout=5).status_code == 200
    with Watch(url) as watch:
        assert watch.turned(limit(quota=100_000), '"service";q=100000;w=3600') <= WITHIN_S
    allowed = requests.post(url, data="x" * 100_000, timeout=5)
    assert allowed.json()["method"] == "POST"
    assert allowed.headers["RateLimit"].startswith('"service";r=')


def test_no_spelling_escapes_and_no_field_of_a_client_s_is_believed(nginx, limit):
    url = f"{nginx.url}/paid/x"
    turned(url, 429, limit(quota=1))
    session = requests.Session()
    spellings = [
        "/paid/x",
        "/%70aid/x",
        "//paid//x",
        "/a/../paid/x",
        "/./paid/./x",
        "/a%2f..%2fpaid/x",
    ]
    for spelling in spellings:
        request = requests.Request("GET", nginx.url).prepare()
        request.url = nginx.url + spelling
        assert session.send(request, timeout=5).status_code == 429, spelling
    for field in ("X-Original-URI", "X-Forwarded-Uri"):
        for value in ("/free", ""):
            got = requests.get(url, headers={field: value}, timeout=5)
            assert got.status_code == 429
    for field in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        assert requests.get(url, headers={field: "203.0.113.9"}, timeout=5).status_code == 429
    session.close()


def test_what_the_service_answers_itself_is_left_alone(nginx, limit):
    turned(f"{nginx.url}/paid/x", 200, limit(quota=1_000))
    for status in (403, 500, 404, 429):
        got = requests.get(f"{nginx.url}/paid/x", headers={"X-Answer": str(status)}, timeout=5)
        assert got.status_code == status
        assert got.json()["path"] == "/paid/x"
        assert got.headers["RateLimit"]


def test_nobody_reaches_the_question_from_outside(nginx):
    assert requests.get(f"{nginx.url}/_rate_limits", timeout=5).status_code == 404


def test_a_limit_that_denies_without_redis_answers_503(nginx, limit, site):
    url = f"{nginx.url}/paid/x"
    turned(url, 429, limit(quota=1))
    turned(url, 200, limit(quota=100, on_failure="deny"))
    _, redis = site
    redis.pause()
    try:
        denied = requests.get(url, timeout=5)
    finally:
        redis.resume()
    assert denied.status_code == 503
    assert int(denied.headers["Retry-After"]) >= 1
    deadline = time.time() + 10
    while requests.get(url, timeout=5).status_code != 429:
        assert time.time() < deadline


def test_requests_pass_while_iota_is_away_and_are_limited_once_it_is_back(
    nginx, limit, site, service
):
    url = f"{nginx.url}/paid/x"
    turned(url, 429, limit(quota=1))
    running_site, _ = site
    running_site.stop()
    try:
        for method in ("GET", "POST"):
            passed = requests.request(method, url, timeout=5)
            assert passed.json() == {"path": "/paid/x", "method": method}
            assert "RateLimit" not in passed.headers
    finally:
        running_site.start()
    turned(url, 429, time.time())


def test_a_question_that_is_not_trusted_is_a_failure_and_no_verdict(tmp_path, service):
    """As where the token is wrong: the mode that was chosen for failures, and a line in the log."""
    with running(tmp_path, {"IOTA_CHECK_NETWORKS": ""}) as (closed, _):
        closed.start()
        folder = tmp_path / "nginx"
        folder.mkdir()
        server = NginxProcess(folder, as_shipped(folder, closed.port, service)).start()
        try:
            assert requests.get(f"{server.url}/paid/x", timeout=5).status_code == 200
            assert "auth request unexpected status: 400" in server.said()
        finally:
            server.stop()
    assert "name it in IOTA_CHECK_NETWORKS" in closed.said()


def test_the_shipped_files_are_what_nginx_accepts(tmp_path):
    assert NGINX is not None
    text = as_shipped(tmp_path, 8000, 9000)
    server = NginxProcess(tmp_path, text)
    ran = subprocess.run(server._command("-t", "-q"), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from apps.benchmarks import load
from apps.benchmarks.load import LoadFailed, keep_busy


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    statuses = {"/": 200, "/denied": 429}

    def do_GET(self):
        if self.path == "/close":
            self.close_connection = True
            return
        self.send_response(self.statuses[self.path])
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # With fewer, connections are made anew after a second or three.

    def handle_error(self, request, client_address):
        """A client that goes in the middle of an answer is no news."""


@pytest.fixture(scope="module")
def url():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_our_client_keeps_connections_busy_and_counts_answers(url):
    found = keep_busy(f"{url}/", 0.2, 4)
    assert found["requests"] > 4
    assert (found["failed"], found["took_s"] >= 0.2) == (0, True)


def test_our_client_counts_answers_that_are_not_200(url):
    found = keep_busy(f"{url}/denied", 0.1, 1)
    assert found["failed"] == found["requests"] > 0


def test_a_connection_that_is_closed_is_an_error(url):
    with pytest.raises(LoadFailed, match="closed a connection"):
        keep_busy(f"{url}/close", 1, 1)


@pytest.fixture(params=["wrk", "ours"])
def generator(request, monkeypatch):
    if request.param == "ours":
        monkeypatch.setattr(load.shutil, "which", lambda name: None)
    elif not load.shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    return request.param


def test_requests_per_second_are_measured_from_another_process(url, generator):
    assert generator in load.generator() or "apps.benchmarks.load" in load.generator()
    assert load.requests_per_s(f"{url}/", 1) > 10


def test_denied_requests_are_no_measurement(url, generator):
    with pytest.raises(LoadFailed, match=r"/denied"):
        load.requests_per_s(f"{url}/denied", 1)

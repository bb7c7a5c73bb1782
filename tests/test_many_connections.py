"""The demo's server, and the one that ships, with more connections than are asked at once."""

from __future__ import annotations

import http.client
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iota import demo

from .connections import kept_open

NUMBER = 1_300
"""More than granian takes where nobody has told it: 512 in each of two processes."""
HOST = "127.0.0.1"


@contextmanager
def started(command: list[str], folder: Path, port: int, **more: str) -> Iterator[None]:
    (folder / "log").mkdir()
    processes = demo.Processes(folder / "log")
    nobody = demo.free_port(HOST)  # No Redis is there: /healthz asks for nothing.
    try:
        processes.start("site", command, {**demo.environment(folder, nobody), **more})
        deadline_s = time.monotonic() + demo.START_TIMEOUT_S
        while not demo.answers(HOST, port, "/healthz"):
            processes.check()
            assert time.monotonic() < deadline_s, "the site did not start"
            time.sleep(0.1)
        yield
    finally:
        processes.stop()


def status_of(port: int) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


def ask_beside_others(port: int) -> None:
    with kept_open(port, NUMBER):
        assert [status_of(port) for _ in range(20)] == [200] * 20


def test_the_demo_answers_beside_connections_that_are_kept_open(tmp_path):
    port = demo.free_port(HOST)
    with started(demo.site_command(HOST, port), tmp_path, port):
        ask_beside_others(port)


def test_the_entry_point_asks_for_the_files_that_connections_need(tmp_path):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 6_000:
        pytest.skip("this machine allows fewer open files")
    port = demo.free_port(HOST)
    site = str(demo.ROOT / "deploy/entrypoint.sh")
    few_files = ["sh", "-c", 'ulimit -Sn 1024; exec "$0" web', site]
    more = {
        "GRANIAN_HOST": HOST,
        "GRANIAN_PORT": str(port),
        "GRANIAN_WORKERS": "1",
        "GRANIAN_BLOCKING_THREADS": "2",
        "PATH": f"{demo.BIN}{os.pathsep}{os.environ['PATH']}",
    }
    with started(few_files, tmp_path, port, **more):
        ask_beside_others(port)


def test_a_system_that_allows_fewer_files_is_asked_for_all_of_them(tmp_path):
    granian = tmp_path / "granian"
    granian.write_text("#!/bin/sh\nulimit -Sn\n")
    granian.chmod(0o755)
    few = 'ulimit -Sn 1024; ulimit -Hn 2000; exec "$0" web'
    command = ["sh", "-c", few, str(demo.ROOT / "deploy/entrypoint.sh")]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert said.stdout == "2000\n"
    assert "2000 open files are allowed, GRANIAN_BACKPRESSURE needs 5120" in said.stderr

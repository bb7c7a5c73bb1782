from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
import redis

from apps.benchmarks import servers
from apps.benchmarks.servers import ServerFailed, embedded_valkey


def test_a_valkey_of_its_own_answers_and_is_gone_at_the_end():
    with embedded_valkey() as server, redis.Redis.from_url(server.url) as client:
        info = client.info("server")
        assert info["valkey_version"] == server.version
        assert client.config_get("save") == {"save": ""}
    with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_one_that_does_not_start_is_named(monkeypatch):
    monkeypatch.setattr(servers, "get_binary_path", lambda: "/bin/false")
    with pytest.raises(ServerFailed, match="Valkey did not answer on port"), embedded_valkey():
        pass


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(servers, "STOP_TIMEOUT_S", 0.1)
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\n"
    )
    command = [sys.executable, "-c", f"{stubborn}while True: signal.pause()"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        servers.stop(process)
    assert process.returncode == -9


def test_a_sigterm_ends_the_run_in_order():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, servers.stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def look():
        with servers.stopped_by_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]

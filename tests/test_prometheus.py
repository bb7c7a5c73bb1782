"""A real Prometheus, with the files of ``deploy/prometheus``, scrapes a real site."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.servers import free_port
from tests.sites import ROOT, SiteProcess, running

TOKEN = "metrics-token-0123456789-0123456789-abcd"
WAIT_S = 60

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)


def configuration(folder: Path, site: SiteProcess) -> Path:
    """As shipped, but for the site's address and the pace."""
    shutil.copy(ROOT / "deploy/prometheus/rules.yml", folder)
    (folder / "token").write_text(TOKEN)
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    for shipped, ours in {
        "scheme: https": "scheme: http",
        "/etc/prometheus/iota-metrics-token": str(folder / "token"),
        "iota.example.com": f"127.0.0.1:{site.port}",
        "15s": "1s",
    }.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    (folder / "prometheus.yml").write_text(text)
    return folder / "prometheus.yml"


def test_a_real_prometheus_reads_a_site_and_its_rules(tmp_path):
    port = free_port()
    api = f"http://127.0.0.1:{port}/api/v1"

    def ask(path: str, **options: str) -> dict:
        return requests.get(f"{api}/{path}", params=options, timeout=10).json()["data"]

    def number(query: str) -> float | None:
        found = ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    with running(tmp_path, {"IOTA_METRICS_TOKEN": TOKEN}) as (site, _):
        site.start()
        for _ in range(7):
            requests.get(f"{site.url}/api/test", timeout=20)
        command = ["prometheus", "--config.file", str(configuration(tmp_path, site))]
        command += ["--storage.tsdb.path", str(tmp_path / "data")]
        command += ["--web.listen-address", f"127.0.0.1:{port}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + WAIT_S
            # Counted in process, and in Redis within a second or so.
            while True:
                try:
                    if (number("iota_requests_total") or 0) >= 7:
                        break
                except requests.RequestException:
                    pass
                assert server.poll() is None, (tmp_path / "prometheus.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()
                time.sleep(0.2)
            assert number('up{job="iota"}') == 1
            assert number("iota_up") == 1
            (target,) = ask("targets")["activeTargets"]
            assert target["lastError"] == ""
            while True:
                states = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
                if {rule["health"] for rule in states} == {"ok"}:
                    break
                assert time.monotonic() < deadline, states
                time.sleep(0.2)
            assert len(states) >= 8
        finally:
            server.terminate()
            server.wait(30)

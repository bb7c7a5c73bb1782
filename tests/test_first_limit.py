"""A newcomer's first five minutes: docs/guides/first-limit.md in a fresh clone, by the clock."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .servers import free_port
from .staff import denied_in_time, signed_in, write_limit

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guides" / "first-limit.md"
WORK_S = 180
TYPING_S = 90
"""Left to a person's hands: signing in, four fields, one command."""

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="the guide's commands are curl"
)


def clone(folder: Path) -> Path:
    """What a clone of the tree as it stands would have: nothing that is ignored, such as var/."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@contextmanager
def demo(folder: Path, port: int) -> Iterator[str]:
    """What ``make demo`` runs once it has installed; what it says."""
    said = folder / "demo.out"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "iota.demo"],
            cwd=folder,
            env={**os.environ, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + WORK_S
        while "Ctrl-C stops everything" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)
        yield said.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def test_from_a_clone_to_a_limit_that_denies_ones_own_curl(tmp_path, record_property):
    start, four, one = blocks("sh")
    shown, answers = blocks("")
    assert start == "make demo\n"
    rows = re.findall(r"^\| ([\w ]+) \| `?([^`|]+?)`? \|$", GUIDE.read_text(), re.MULTILINE)
    typed = {name.lower().replace(" ", "_"): value for name, value in rows if name != "field"}
    assert list(typed) == ["name", "path_kind", "path", "quota"]
    typed["path_kind"] = {"Exactly": "exact"}[typed["path_kind"]]

    began_s = time.monotonic()
    port = free_port()
    with demo(clone(tmp_path), port) as said:
        url = f"http://127.0.0.1:{port}"
        up_s = time.monotonic() - began_s
        for line in shown.splitlines():
            # Up to what differs from machine to machine.
            assert re.split("'|127|…|;", line)[0] in said, line
        found = re.search(r"password '([^']+)'", said)
        assert found
        saved_s = write_limit(signed_in(url, "staff", found[1]), url, **typed)
        denied_in_time(f"{url}{typed['path']}", saved_s, int(typed["quota"]))
        assert shell(four, url) == answers
        took_s = time.monotonic() - began_s
        answer = shell(one, url)
        assert answer.startswith("HTTP/1.1 429")
        for part in ("retry-after: ", "ratelimit: ", "ratelimit-policy: ", '"mine"'):
            assert part in answer.lower(), answer
    record_property("up_s", round(up_s, 1))
    record_property("denied_s", round(took_s, 1))
    print(f"up after {up_s:.1f} s, denied after {took_s:.1f} s")
    assert took_s + TYPING_S < WORK_S


def shell(block: str, url: str) -> str:
    command = ["bash", "-euc", block.replace("http://127.0.0.1:8000", url)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

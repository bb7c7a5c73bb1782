"""``make loadtest``: a site of its own, loaded over HTTP, judged, and recorded as a benchmark run.

The site is the demo's, with its worker and beat, on free ports, and with a database and a Valkey
that nothing else uses; it is gone afterwards. What was measured is kept in the demo's database,
``var/iota.sqlite3``, and shows on the trend page of ``make demo``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from . import demo
from .demo import ROOT, DemoError, Processes

LIMITS = ROOT / "loadtests" / "limits"
HOST = "127.0.0.1"
MET, MISSED, USAGE, INVALID = 0, 1, 2, 3
"""Exit codes, as of loadtests/criteria.py."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``users``: classes of loadtests/users.py. Its limits are the file of its name."""

    users: tuple[str, ...]
    edited: str = ""


SCENARIOS: Mapping[str, Scenario] = {
    "basic": Scenario(("Anonymous",)),
    "mixed": Scenario(("Anonymous", "SignedIn", "ApiKey", "Attacker", "Editor"), "api-edited"),
    "edge": Scenario(("Edge", "Anonymous")),
}


def say(text: str) -> None:
    print(f"loadtest: {text}", flush=True)


def start_site(processes: Processes, folder: Path, scenario: str, users: int) -> str:
    """Its URL. ``folder`` gets all that it keeps, and the accounts."""
    valkey_port, port = demo.free_port(HOST), demo.free_port(HOST)
    environ = {
        **demo.environment(folder, valkey_port),
        "IOTA_TRUSTED_PROXIES": "127.0.0.0/8",
        "IOTA_LOG_LEVEL": "WARNING",
        # Counts are exact while Redis answers in time. On a machine that is busy to its last cycle
        # 50 ms may pass without anybody's fault: then the wait shows in p99, not in the counts.
        "IOTA_REDIS_TIMEOUT_MS": "1000",
    }
    demo.start_valkey(processes, folder / "valkey", valkey_port, environ)
    make = "from pathlib import Path; from iota.load_accounts import write; "
    make += f"write(Path({str(folder / 'accounts.json')!r}), {users})"
    demo.manage(
        environ,
        ["migrate", "--verbosity", "0"],
        ["ratelimit", "import", str(LIMITS / f"{scenario}.json")],
        ["shell", "--verbosity", "0", "-c", make],
    )
    demo.start_processes(processes, environ, HOST, port)
    demo.wait_until_answering(processes, HOST, port)
    return f"http://{HOST}:{port}"


def locust(arguments: argparse.Namespace, folder: Path, url: str) -> int:
    """Its exit code."""
    scenario = SCENARIOS[arguments.scenario]
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")]
    command += ["--headless", "--host", url, "--users", str(arguments.users)]
    command += ["--spawn-rate", str(arguments.rate), "--run-time", arguments.run_time]
    command += ["--stop-timeout", "10", "--loglevel", "WARNING", "--only-summary"]
    command += ["--json-file", str(folder / "stats")]
    command += ["--limits", str(LIMITS / f"{arguments.scenario}.json"), "--own-addresses"]
    command += ["--accounts", str(folder / "accounts.json")]
    command += ["--verdict-file", str(folder / "verdict.json")]
    command += ["--p99-ms", str(arguments.p99_ms), "--lag-ms", str(arguments.lag_ms)]
    if scenario.edited:
        command += ["--edited", scenario.edited]
    if arguments.processes > 1:
        port = str(demo.free_port(HOST))
        command += ["--processes", str(arguments.processes)]
        command += ["--master-bind-port", port, "--master-port", port]
    command += scenario.users
    environ = {**os.environ, "LOAD_SHAPE": arguments.shape}
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        raise


def record(arguments: argparse.Namespace, folder: Path) -> None:
    """As a run of the demo's, by the importer of benchmarks. Raises DemoError."""
    told = json.loads((folder / "verdict.json").read_text())
    environ = demo.environment(arguments.var, demo.free_port(HOST))
    command = ["benchmark", "import", str(folder / "stats.json"), "--format", "locust"]
    command += ["--this-code", "--note", "\n".join([told["verdict"], *told["lines"]])]
    shape = [f"shape={arguments.shape}"] if arguments.shape else []
    for parameter in (f"users={arguments.users}", f"scenario={arguments.scenario}", *shape):
        command += ["--parameter", parameter]
    demo.manage(environ, ["migrate", "--verbosity", "0"], command)
    say(f"recorded in {arguments.var / 'iota.sqlite3'}: see Benchmarks, Trends in the admin")


def run(arguments: argparse.Namespace, folder: Path) -> int:
    (folder / "log").mkdir()
    processes = Processes(folder / "log")
    try:
        say("starting a site of its own: Valkey, granian, workers, beat")
        url = start_site(processes, folder, arguments.scenario, arguments.users)
        say(f"{arguments.users} users at {url} for {arguments.run_time}, {arguments.scenario}")
        code = locust(arguments, folder, url)
        processes.check()
    finally:
        processes.stop()
    if code in (MET, MISSED) and (folder / "stats.json").exists() and not arguments.no_record:
        record(arguments, folder)
    if code == INVALID:
        say("not recorded: it says nothing of the site")
    return code


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="make loadtest")
    add = parser.add_argument
    add("--var", type=Path, default=ROOT / "var", help="where the demo keeps its data")
    add("--users", type=int, default=100)
    add("--rate", type=float, default=10, help="users that begin per second")
    add("--run-time", default="30s", help="such as 30s, 5m, 2h")
    add("--scenario", choices=tuple(SCENARIOS), default="mixed")
    add("--shape", choices=("", "steps", "spike", "soak"), default="", help="how many when")
    add("--processes", type=int, default=1, help="of locust")
    add("--p99-ms", type=float, default=100, help="the criterion")
    add("--lag-ms", type=float, default=25, help="how late locust itself may be, p99")
    add("--no-record", action="store_true", help="keep nothing of it")
    found = parser.parse_args(arguments)
    if not 1 <= found.users <= 100_000:
        parser.error(f"--users {found.users}: use 1 to 100000")
    found.var = found.var.resolve()
    return found


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    given.var.mkdir(parents=True, exist_ok=True)

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Also where whoever started it has it ignore Ctrl-C, as a shell does of what it starts aside.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    folder = Path(tempfile.mkdtemp(prefix="iota-loadtest-"))
    try:
        code = run(given, folder)
    except KeyboardInterrupt:
        print(flush=True)
        code = INVALID
    except DemoError as error:
        # The logs are all that tells why.
        kept = given.var / "loadtest"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "log", kept / "log")
        print(f"loadtest: {error}\nloadtest: logs in {kept / 'log'}", file=sys.stderr, flush=True)
        code = INVALID
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

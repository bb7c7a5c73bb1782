"""Redis itself, through redis-py as the limiter makes its client: no limiter can be better."""

from __future__ import annotations

import csv
import shutil
import subprocess
from functools import partial
from urllib.parse import urlsplit

from .. import cores, rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from . import ours
from .throughput import per_second, together

PIPELINE = 16
KEYS = 500
VALUE = b"x" * 3
"""As long as redis-benchmark's own."""

PROGRAM = "redis-benchmark"
REQUESTS = 100_000
CLIENTS = 50
COMMANDS = ("set", "get")
PROGRAM_TIMEOUT_S = 60
PROGRAM_RUNS = 5
POOL_THREADS = (1, 8)
POOL_SLOT_S = 0.3


@benchmark(
    "redis-ping",
    suite="redis",
    metric="time per PING",
    unit="us",
    direction=Direction.LOWER,
    sets=("quick", "full"),
)
def ping(run: Run) -> Samples:
    with ours.client(run) as client:
        contestant = rounds.Contestant("redis-py", lambda _: client.ping(), [None])
        return Samples(rounds.measure([contestant], run.rounds))


@benchmark(
    "redis-evalsha",
    suite="redis",
    metric="time per EVALSHA",
    unit="us",
    direction=Direction.LOWER,
    sets=("quick", "full"),
)
def evalsha(run: Run) -> Samples:
    """Of a script that does nothing, and of one that reads the clock and writes a key."""
    with ours.client(run) as client:
        nothing = client.script_load("return 1")
        writes = client.script_load(
            "return redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', 1000)"
        )
        names = [f"k{number}" for number in range(KEYS)]
        contestants = [
            rounds.Contestant("return 1", partial(client.evalsha, nothing, 1), names),
            rounds.Contestant("TIME and SET", partial(client.evalsha, writes, 1), names),
        ]
        taken = rounds.measure(contestants, run.rounds)
    run.client.flushall()
    return Samples(taken)


@benchmark(
    "redis-pipelined",
    suite="redis",
    metric="commands per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"pipeline": PIPELINE, "clients": 1},
    sets=("quick", "full"),
)
def pipelined(run: Run) -> Samples:
    with ours.client(run) as client:

        def send(command: str, first: int) -> None:
            with client.pipeline(transaction=False) as pipeline:
                for number in range(first, first + PIPELINE):
                    if command == "SET":
                        pipeline.set(f"key:{number}", VALUE)
                    else:
                        pipeline.get(f"key:{number}")
                pipeline.execute()

        starts = range(0, KEYS, PIPELINE)
        contestants = [
            rounds.Contestant(command, partial(send, command), starts, PIPELINE)
            for command in ("SET", "GET")
        ]
        taken = rounds.measure(contestants, run.rounds)
    run.client.flushall()
    return per_second(taken)


@benchmark(
    "redis-pool",
    suite="redis",
    metric="PINGs per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"connections": max(POOL_THREADS)},
)
def pool(run: Run) -> Samples:
    """Each takes a connection out of one pool and gives it back."""
    taken: dict[str, list[float]] = {}
    with ours.client(run) as client:
        for turn in range(-1, run.rounds):
            for number in POOL_THREADS if turn % 2 else reversed(POOL_THREADS):
                found = together(lambda _: bool(client.ping()), number, POOL_SLOT_S)
                if turn >= 0:  # The first is the warm-up.
                    taken.setdefault(f"{number} threads", []).append(found)
    return Samples({name: tuple(values) for name, values in taken.items()})


@benchmark(
    "redis-benchmark",
    suite="redis",
    metric="requests per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"requests": REQUESTS, "clients": CLIENTS, "pipeline": PIPELINE},
)
def program(run: Run) -> Samples:
    """``redis-benchmark -n 100000 -c 50 -P 16 -t set,get``, on the other core if there is one."""
    path = shutil.which(PROGRAM)
    if path is None:
        return Samples({}, {name.upper(): f"{PROGRAM} is not installed" for name in COMMANDS})
    address = urlsplit(run.server.url)
    command = [path, "-h", str(address.hostname), "-p", str(address.port), "--csv"]
    command += ["-n", str(REQUESTS), "-c", str(CLIENTS), "-P", str(PIPELINE)]
    command += ["-t", ",".join(COMMANDS)]
    taken: dict[str, list[float]] = {}
    with cores.pinned(run.load_core):
        for _ in range(min(run.rounds, PROGRAM_RUNS)):
            ran = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=PROGRAM_TIMEOUT_S
            )
            for row in csv.DictReader(ran.stdout.splitlines()):
                taken.setdefault(row["test"], []).append(float(row["rps"]))
    run.client.flushall()
    return Samples({name: tuple(values) for name, values in taken.items()})

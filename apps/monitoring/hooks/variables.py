"""Variables of the environment: how many, and how long reading them takes. Never their values."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping

from apps.ratelimits.storage.server_findings import Finding, Level
from iota.config import ConfigurationError, create_settings
from iota.variables import VARIABLES

from ..amounts import in_time
from ..look import Look
from ..registry import Topic, finding

READS = 5
MOST_S = 0.1
WHERE = "the environment"


@finding("variables", Topic.CONFIGURATION, "Environment variables")
def variables(look: Look) -> Iterator[Finding]:
    yield judge(os.environ)


def judge(environ: Mapping[str, str]) -> Finding:
    names = {variable.name for variable in VARIABLES}
    of_files = {f"{name}_FILE" for name in names}
    count = len(environ.keys() & (names | of_files))
    taken_s = []
    try:
        for _ in range(READS):
            began_s = time.perf_counter()
            create_settings(environ)
            taken_s.append(time.perf_counter() - began_s)
    except ConfigurationError as error:
        wrong = sorted({problem.split("=")[0].split(":")[0] for problem in error.problems})
        return Finding(
            Level.ERROR,
            "variables-wrong",
            WHERE,
            "A process that starts now would refuse to: the environment is wrong.",
            f"{len(error.problems)} wrong: {', '.join(wrong)}",
            "`manage.py check` says why of each; docs/reference/configuration.md names all.",
        )
    best_s = min(taken_s)
    evidence = (
        f"{count} of {len(names)} known variables are set, of {len(environ)} in the environment; "
        f"reading and checking them takes {in_time(best_s)} ({in_time(best_s / len(names))} a "
        f"variable), in a process that has started"
    )
    if best_s > MOST_S:
        return Finding(
            Level.WARNING,
            "variables-slow",
            WHERE,
            "Reading the environment takes long, at each start of a process.",
            evidence,
            "Look at files that *_FILE variables name (a slow disk?), and at long lists such as "
            "IOTA_TRUSTED_PROXIES.",
        )
    return Finding(Level.INFO, "variables", WHERE, "The environment is read in time.", evidence)

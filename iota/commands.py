"""Several of ``manage.py``'s commands in one process, since each start of Django takes a second.

``python -m iota.commands '[["migrate", "--verbosity", "0"], ["loaddata", "demo_limits"]]'``
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import django
from django.core.management import CommandError, call_command


def run(commands: Sequence[Sequence[str]]) -> None:
    """One after the other, the site's checks before the first. Raises SystemExit, naming the
    command that failed."""
    for name, *arguments in (["check"], *commands):
        try:
            call_command(name, *arguments)
        except CommandError as error:
            sys.exit(f"manage.py {name} failed: {error}")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")
    django.setup()
    run(json.loads(sys.argv[1]))

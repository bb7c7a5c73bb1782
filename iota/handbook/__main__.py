"""``python -m iota.handbook``: writes what the docs know from the code; ``--check`` only looks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import django

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m iota.handbook", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where one is stale")
    check = parser.parse_args(arguments).check
    from .pages import stale

    found = stale(DOCS)
    for path, text in found.items():
        print(f"{'out of date' if check else 'written'}: {path}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and found:
        print("Run `make docs`, and commit what it wrote.", file=sys.stderr)
    return int(check and bool(found))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")
    django.setup()
    sys.exit(main())

"""For locust: ``python -m locust -f loadtests/locustfile.py --headless -u 100 -t 1m --host URL``.

Classes are chosen by name on the command line, or by --tags; a shape by LOAD_SHAPE=steps.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtests.shapes import SHAPES
from loadtests.users import Anonymous, ApiKey, Attacker, Edge, Editor, SignedIn
from loadtests.wiring import Shape

__all__ = ["Anonymous", "ApiKey", "Attacker", "Edge", "Editor", "SignedIn"]

wanted = os.environ.get("LOAD_SHAPE", "")
if wanted:
    if wanted not in SHAPES:
        sys.exit(f"LOAD_SHAPE={wanted!r}: use one of {', '.join(SHAPES)}")
    Chosen = type("Chosen", (Shape,), {"name": wanted, "abstract": False})

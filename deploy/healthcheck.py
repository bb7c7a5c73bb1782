"""Whether the site in this container answers: the image's HEALTHCHECK.

By /healthz, not /readyz: a database that is away is no reason to restart every process of the site.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

TIMEOUT_S = 4


def main() -> int:
    port = int(os.environ.get("GRANIAN_PORT", "8000"))
    # The site answers to its own names only.
    host = _allowed_hosts().split(",")[0].strip().lstrip(".") or "localhost"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"/healthz: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"/healthz answers {status}", file=sys.stderr)
    return int(status != 200)


def _allowed_hosts() -> str:
    if file := os.environ.get("ALLOWED_HOSTS_FILE"):
        return Path(file).read_text()
    return os.environ.get("ALLOWED_HOSTS", "")


if __name__ == "__main__":
    sys.exit(main())

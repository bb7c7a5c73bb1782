"""Whether the site in this container answers: the image's HEALTHCHECK.

By /healthz, not /readyz: a database that is away is no reason to restart every process of the site.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 4


def main() -> int:
    port = int(os.environ.get("GRANIAN_PORT", "8000"))
    # The site answers to its own names only.
    host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().lstrip(".")
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


if __name__ == "__main__":
    sys.exit(main())

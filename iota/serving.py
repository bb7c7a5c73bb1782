"""What a server's process does once, between loading the site and its first request.

Python's full garbage collections look at every object there is: some 130,000 that the site is made
of, 60 ms in which a process answers nobody. They are taken out of its sight here, since they live
as long as the process, so that a full collection looks at what requests have left behind.
"""

from __future__ import annotations

import gc

from django.urls import get_resolver


def settle() -> None:
    """Call it when the application has been made, in the process that serves."""
    # The addresses bring the views and the admin along, which the first request would load.
    get_resolver().url_patterns  # noqa: B018
    gc.collect()
    gc.freeze()

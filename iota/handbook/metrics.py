"""Everything that ``/metrics`` exposes."""

from __future__ import annotations

from apps.monitoring.prometheus.families import as_markdown

HEAD = """\
# Metrics

What `/metrics` exposes; [the guide](../guides/metrics.md) says who may read it, and how rates and
alerts are made of it. `manage.py prometheus names` prints this table. No label says who was
counted.
"""


def page() -> str:
    return "\n".join(
        [
            HEAD,
            as_markdown(),
        ]
    )

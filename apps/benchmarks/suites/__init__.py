"""The benchmarks, a module per subject; importing one registers its benchmarks."""

MODULES = (
    "checks",
    "remembered",
    "processor",
    "in_flight",
    "matching",
    "stored",
    "http",
    "throughput",
    "redis_server",
    "configuration",
)
"""In the order of the tables."""

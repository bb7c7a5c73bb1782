"""The benchmarks, a module per subject; importing one registers its benchmarks."""

MODULES = (
    "checks",
    "remembered",
    "processor",
    "in_flight",
    "matching",
    "stored",
    "http",
    "load_of_a_check",
    "throughput",
    "redis_server",
    "configuration",
)
"""In the order of the tables."""

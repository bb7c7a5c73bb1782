"""What ``doctor`` looks at, a module per subject; importing one registers its hooks."""

MODULES = (
    "servers",
    "latency",
    "slow_commands",
    "memory",
    "connections",
    "keys",
    "clean_up",
    "requests",
    "workers",
    "ruleset",
    "variables",
    "caching",
    "start_up",
    "system_checks",
)
"""In the order in which they are asked."""

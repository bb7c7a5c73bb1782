"""The benchmarks, a module per subject; importing one registers its benchmarks."""

MODULES = ("checks", "remembered", "in_flight", "matching", "stored", "http")
"""In the order of the table."""

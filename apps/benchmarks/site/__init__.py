"""The site that the HTTP benchmarks load: one view, with or without a limiter.

``settings`` reads ``BENCHMARK_SITE`` (a ``choice.Choice`` as JSON) from the environment.
"""

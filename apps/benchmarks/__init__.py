"""Measures the limiter beside a floor and its peers, in one run against one server.

statistics  the figures of a sample; records  what was measured (both pure)
targets     what DESIGN section 5 asks of a measurement, and whether it is met (pure)
registry    benchmarks, registered by decorator; suites/ holds them
rounds      interleaved rounds, warm-up, on one core (cores); servers  a Valkey of our own
report      the tables and the JSON; management/subcommands/  the command, word by word
recording   a run from its row to its measurements; fingerprint  its machine; revision  its code
tasks       the same by Celery, with reruns of suspects and retention; queueing  the way to it
exchange    the history as JSON lines; foreign  what other tools measured
load_testing  locust started by staff, watched, stopped; promised  the limits that it checks against
described   what whoever imports a run knows of it and its file does not
site/       the Django site that the HTTP benchmarks load
"""

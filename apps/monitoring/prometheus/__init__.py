"""What Prometheus is told, and by whose leave.

access    who may read ``/metrics``
reading   the state of everything, in bounded time, whatever is away
families  what is exposed, by name: pure, and the docs' table (``python -m`` prints it)
collector the state as families
promql    each metric of the watch as a query; rules  the alert rules as a file
"""

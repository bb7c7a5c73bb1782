"""What the watch reads, and from where.

addresses  which servers there are: one, the Sentinels' primary and replicas, a cluster's nodes
node       asks one server, in bounded time; info, cluster, commands  its answers -> figures (pure)
replicas   those that a primary lost
limiter    what the limiter counted, over all processes
broker     the lengths of Celery's queues
taken      what a source said at one time; rates  two of those -> what happened meanwhile (pure)
everything all of them at once: a slow one keeps no other waiting
"""

"""Load tests over HTTP, by locust: they prove what the limits admit, and measure how fast.

promises    a file of limits, as ``manage.py ratelimit export`` writes it: what is promised to whom
ledgers     what one identity of a limit may have got, seen from outside, to the request
together    the same for identities that many users share, in bins that workers send to the master
edits       an edit is law within a second: which quota an answer may name
answers     one answer against all of them; record  what is known at the end, of all workers
criteria    the guide's criteria, judged: the verdict and its exit code
shapes      how many users, when
            (all of these: no I/O, no locust)
accounts    sessions and keys for users who have them; forms  a page's form, as a browser sends it
generator   whether locust itself is too busy to measure
users       who asks, and how; wiring  options, messages, the verdict; locustfile.py  for locust

Nothing here imports the site: what it knows of it comes over HTTP and from two files.
"""

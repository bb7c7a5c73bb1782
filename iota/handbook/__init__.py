"""What the docs say that the code knows: reference pages, time lines, drawings, sizes.

``python -m iota.handbook`` writes them into ``docs/``, where they are committed, since GitHub shows
them too; ``--check`` says which are out of date. No page of it is written by hand.

commands, models, endpoints, metrics, signals, tasks -> docs/reference/
timelines, drawings, data_path -> docs/overview/algorithms.md, docs/images/drawn/
sizing -> docs/overview/scaling.md
"""

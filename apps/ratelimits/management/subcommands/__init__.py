"""What ``manage.py ratelimit`` can do: one module each, listed in ``commands/ratelimit.py``.

Such a module has ``HELP`` (a line), ``EXAMPLES``, ``add_arguments(parser)``, and
``run(command, options)``, which writes to ``command.stdout`` and raises CommandError where nothing
matched or what was asked for was not carried through (exit code 1), or options are wrong (2).
"""

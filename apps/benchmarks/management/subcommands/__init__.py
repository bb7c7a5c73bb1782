"""The parts of ``manage.py benchmark``, a module for each word; ``exits`` has their exit codes."""

"""Every command of ours, from its parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from inspect import cleandoc

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from .markdown import code, sentence, table

OURS = ("apps.", "iota")
EXIT_CODES = "exit codes:"

HEAD = """\
# Commands

Each is `python manage.py NAME ...`, with the site's Python and in its environment, and says the
same with `--help`. Django's own options (`--settings`, `--traceback` and the like) are left out.
"""


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(its words after ``manage.py``, the parser, what the command is for), subcommands apart."""
    stock = {text for action in _actions(BaseCommand()) for text in action.option_strings}
    for name, app in sorted(get_commands().items()):
        if not str(app).startswith(OURS):
            continue
        command = load_command_class(str(app), name)
        parser = command.create_parser("manage.py", name)
        for action in list(parser._actions):
            if stock.intersection(action.option_strings):
                parser._actions.remove(action)
        chosen = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if not chosen:
            yield name, parser, command.help
        for action in chosen:
            for word, subparser in action.choices.items():
                yield f"{name} {word}", subparser, subparser.description or ""


def _actions(command: BaseCommand) -> list[argparse.Action]:
    return command.create_parser("manage.py", "any")._actions


def page() -> str:
    parts = [
        HEAD,
    ]
    for name, parser, says in parsers():
        parts += [f"## {name}", sentence(says), _arguments(parser), *_epilog(parser.epilog or "")]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _arguments(parser: argparse.ArgumentParser) -> str:
    shown = [one for one in parser._actions if "--help" not in one.option_strings]
    if not shown:
        return ""
    return table(("argument", "what it does"), [(_form(one), _help(parser, one)) for one in shown])


def _form(action: argparse.Action) -> str:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return code(f"{value} ..." if action.nargs in ("*", "+") else str(value))
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(code(f"{text}{takes}") for text in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    said = parser._get_formatter()._expand_help(action) if action.help else ""
    default = action.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool) and default
    if plain and action.default is not argparse.SUPPRESS and str(default) not in said:
        said += f" (default {default})"
    return f"{said} (required)" if action.required and action.option_strings else said


def _epilog(text: str) -> Iterator[str]:
    """Examples as they stand; the rest as sentences, exit codes one by one."""
    for block in cleandoc(text).split("\n\n"):
        if block.startswith("examples:"):
            yield "```text\n" + cleandoc(block.removeprefix("examples:").lstrip("\n")) + "\n```"
        elif block.startswith(EXIT_CODES):
            yield _exit_codes(" ".join(block.removeprefix(EXIT_CODES).split()))
        elif block:
            yield sentence(" ".join(block.split()))


def _exit_codes(text: str) -> str:
    """Of "0 done; 1 it failed. What else is to be said." """
    codes, _, rest = text.partition(". ")
    rows = [one.split(" ", 1) for one in re.split(r"[;,] (?=\d )", codes)]
    listed = "\n".join(f"- `{number}`: {says}" for number, says in rows)
    return f"Exit codes:\n{listed}" + (f"\n\n{sentence(rest)}" if rest else "")

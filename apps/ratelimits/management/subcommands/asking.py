"""What the commands about one request or identity have in common: reading who is meant."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser

from ... import conf
from ...caller import Callers
from ...engine import Engine, get_engine
from ...inspecting import Inspection, Subject, inspect, is_digest
from ...policy.client_ip import parse_address
from ...storage.errors import Unavailable


def with_limits() -> Engine:
    """The engine with the newest limits, which does not count as a process that serves."""
    engine = get_engine()
    engine.refresh()
    if engine.version < 0:
        raise CommandError("There are no limits to be had: neither Redis nor the database answers.")
    return engine


def user(name: str) -> Any:
    if not name:
        return None
    model = get_user_model()
    found = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
    if found is None:
        raise CommandError(f"No user is called {name!r}.", returncode=2)
    return found


def address(text: str) -> str:
    if text and parse_address(text) is None:
        raise CommandError(
            f"{text!r} is no address: write it as 203.0.113.9 or 2001:db8::1.", returncode=2
        )
    return text


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise CommandError(
            f'{name.strip()!r} is no header: write it as "X-Api-Key: k".', returncode=2
        )
    return name.strip(), value.strip()


def add_identity(parser: CommandParser) -> None:
    parser.add_argument("--ip", default="", metavar="ADDRESS", help="the client's address")
    parser.add_argument("--user", default="", metavar="NAME", help="a user of the site")
    parser.add_argument(
        "--header", default="", metavar='"NAME: VALUE"', help="an API key, or whose it is"
    )
    parser.add_argument("--session", default="", metavar="KEY", help="the key of a session")
    parser.add_argument("--digest", default="", help="as Redis and the admin have it")


def identity(options: dict[str, Any]) -> tuple[Engine, Subject, Inspection]:
    """Whom the options name, and where they stand. Raises CommandError."""
    digest = options["digest"]
    named = [name for name in ("ip", "user", "header", "session") if options[name]]
    if not named and not digest:
        raise CommandError("Say who: --ip, --user, --header, --session, or --digest.", returncode=2)
    if digest and (named or not is_digest(digest)):
        said = "A digest stands alone." if named else "A digest has 20 letters, digits, - and _."
        raise CommandError(said, returncode=2)
    shown, value = header(options["header"]) if options["header"] else ("", "")
    subject = Subject(
        address=address(options["ip"]),
        user=user(options["user"]),
        header=shown,
        key_of=key_owner(shown, value),
        session=options["session"],
        digest=digest,
    )
    engine = with_limits()
    try:
        return engine, subject, inspect(engine, subject)
    except Unavailable as error:
        raise CommandError(f"Redis does not answer: {error}") from error


def key_owner(name: str, value: str) -> str:
    """Whose key that is; what is no key that the site knows is taken for its owner's name."""
    if not value:
        return ""
    return Callers(conf.current().key_validator).owner(name, value) or value

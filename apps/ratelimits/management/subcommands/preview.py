"""What a limit would have done to the recorded requests, at its own quota and at others."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import conf, previewing, wording
from ...models import RateLimit
from ...policy.errors import PolicyError
from ...policy.preview import Preview
from ...storage.errors import Unavailable

HELP = "what a limit would have done to the requests recorded lately"
EXAMPLES = """examples:
  manage.py ratelimit preview api
  manage.py ratelimit preview api --quota 50 --quota 100 --json

exit codes: 0 done; 1 there is no such limit, or nothing recorded
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("name", help="the limit's")
    parser.add_argument(
        "--quota",
        type=int,
        action="append",
        metavar="N",
        help="try it with this quota beside its own; may be given several times",
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    limit = RateLimit.objects.filter(name=options["name"]).first()
    if limit is None:
        names = ", ".join(RateLimit.objects.values_list("name", flat=True)[:20])
        raise CommandError(f"There is no limit {options['name']!r}. There are: {names or 'none'}.")
    if not conf.current().traffic_records:
        raise CommandError("No requests are recorded: IOTA_TRAFFIC_RECORDS is 0.")
    rule = previewing.as_it_is(limit.pk)
    if rule is None:
        raise CommandError(f"{limit} cannot be enforced as it is: mend it in the admin.")
    try:
        traffic = previewing.recorded()
        if not len(traffic):
            raise CommandError("No request has been recorded yet: call the site, then try again.")
        tried = [(rule.rate.quota, previewing.previewed(traffic, rule, None))]
        for quota in options["quota"] or ():
            draft = previewing.with_quota(rule, quota)
            tried.append((quota, previewing.previewed(traffic, draft, None)))
    except Unavailable as error:
        raise CommandError(f"Redis does not answer ({error}).") from error
    except PolicyError as error:
        raise CommandError(f"This cannot be tried: {error}.") from error
    if options["json"]:
        said = [{"quota": quota, **found.as_json()} for quota, found in tried]
        command.stdout.write(json.dumps({"name": limit.name, "tried": said}, indent=1))
    else:
        _print(command, limit, tried)


def _print(command: BaseCommand, limit: RateLimit, tried: list[tuple[int, Preview]]) -> None:
    first = tried[0][1]
    command.stdout.write(wording.sentence(limit, limit.groups.all()))
    command.stdout.write(f"Tried on {first.records:,} recorded requests:")
    for quota, found in tried:
        side = found.draft
        command.stdout.write(
            f"  quota {quota:,}: would have denied {side.denied:,} of {side.matched:,} requests, "
            f"{side.people_denied:,} of {side.people:,} identities"
        )
    if untold := sum(first.draft.untold.values()):
        reasons = ", ".join(first.draft.untold)
        command.stdout.write(f"  {untold:,} cannot be told, by what is not recorded: {reasons}")
    use = first.use
    if use.suggested is not None:
        command.stdout.write(
            f"Busiest window of an identity: half within {use.p50:,}, 95 of 100 within "
            f"{use.p95:,}, 99 within {use.p99:,}, at most {use.most:,}. "
            f"Suggested quota: {use.suggested:,}"
        )

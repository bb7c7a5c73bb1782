"""From SQLite to PostgreSQL, by the commands of the guide."""

from __future__ import annotations

import re
from pathlib import Path

from . import postgres
from .servers import RedisProcess
from .sites import ROOT, environment, manage
from .test_postgres import needs_postgres

SETUP = """
from django.contrib.auth.models import Group, User
from apps.ratelimits.models import Override, RateLimit
ada = User.objects.create_superuser("ada", password="pw")
ada.groups.add(Group.objects.get(name="Rate limit editors"))
limit = RateLimit.objects.create(name="api", quota=7, message="Später, bitte.")
limit.groups.add(Group.objects.create(name="partners"))
limit.quota = 8
limit.save()
Override.objects.create(limit=limit, user=ada, action="unlimited")
"""
SEEN = """
import json
from django.apps import apps
from django.contrib.auth.models import User
from apps.ratelimits.models import RateLimit
from apps.ratelimits.ruleset import load
left_out = ("contenttypes", "sessions")
counts = {
    model._meta.label: model._base_manager.count()
    for model in apps.get_models(include_auto_created=True)
    if model._meta.app_label not in left_out
}
ada = User.objects.get(username="ada")
permissions = sorted(ada.groups.get().permissions.values_list("codename", flat=True))
rules = [str(rule) for rule in load().rules]
print(json.dumps([counts, permissions, rules, ada.check_password("pw")], sort_keys=True))
"""
ADD = """
from apps.ratelimits.models import RateLimit
print(RateLimit.objects.create(name="new", quota=7).pk)
"""


def commands() -> list[list[str]]:
    page = (ROOT / "docs/guides/postgresql.md").read_text().split("## Move there")[1]
    blocks = re.findall(r"```sh\n(.*?)```", page.split("\n## ")[0], re.DOTALL)
    return [block.splitlines() for block in blocks]


@needs_postgres
def test_everything_is_there_after_the_move(tmp_path: Path):
    redis = RedisProcess().start()
    old = environment(tmp_path, redis.url, DATABASE_URL=f"sqlite:///{tmp_path}/old.sqlite3")

    def run(variables: dict[str, str], line: str) -> str:
        program, *words = line.replace("var/site.json", str(tmp_path / "site.json")).split()
        assert program == "manage.py"
        return manage(variables, *words)

    try:
        manage(old, "migrate", "--verbosity", "0")
        manage(old, "shell", "-v", "0", "-c", SETUP)
        before = manage(old, "shell", "-v", "0", "-c", SEEN)
        with postgres.start(tmp_path) as server:
            new = {**old, "DATABASE_URL": server.url}
            with_the_old, with_the_new = commands()
            for line in with_the_old:
                run(old, line)
            said = [run(new, line) for line in with_the_new]
            assert "api" in said[-1]
            assert manage(new, "shell", "-v", "0", "-c", SEEN) == before
            # Numbers go on where the old ones end.
            assert int(manage(new, "shell", "-v", "0", "-c", ADD)) > 1
    finally:
        redis.stop()

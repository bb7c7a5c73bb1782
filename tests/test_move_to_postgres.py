"""From SQLite to PostgreSQL, by the commands of the guide."""

from __future__ import annotations

import re
import subprocess
import sys
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
rows = {
    model._meta.label: list(model._base_manager.order_by("pk").values())
    for model in apps.get_models(include_auto_created=True)
}
ada = User.objects.get(username="ada")
permissions = sorted(ada.groups.get().permissions.values_list("codename", flat=True))
rules = [str(rule) for rule in load().rules]
seen = [rows, permissions, rules, ada.check_password("pw")]
print(json.dumps(seen, default=str, sort_keys=True))
"""
ADD = """
from apps.ratelimits.models import RateLimit
print(RateLimit.objects.create(name="new", quota=7).pk)
"""


def commands() -> list[str]:
    page = (ROOT / "docs/guides/postgresql.md").read_text().split("## Move there")[1]
    (block,) = re.findall(r"```sh\n(.*?)```", page.split("\n## ")[0], re.DOTALL)
    return block.splitlines()


@needs_postgres
def test_everything_is_there_after_the_move(tmp_path: Path):
    redis = RedisProcess().start()
    old = environment(tmp_path, redis.url, DATABASE_URL=f"sqlite:///{tmp_path}/old.sqlite3")

    def run(line: str) -> str:
        words = line.replace("var/iota.sqlite3", f"{tmp_path}/old.sqlite3").split()
        words = words[1:] if words[0] == "python" else words
        command = [sys.executable, *words]
        ran = subprocess.run(command, cwd=ROOT, env=new, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    try:
        manage(old, "migrate", "--verbosity", "0")
        manage(old, "shell", "-v", "0", "-c", SETUP)
        before = manage(old, "shell", "-v", "0", "-c", SEEN)
        with postgres.start(tmp_path) as server:
            new = {**old, "DATABASE_URL": server.url}
            migrated, moved, listed = [run(line) for line in commands()]
            assert "Applying ratelimits" in migrated
            assert "1 ratelimits_ratelimit\n" in moved
            assert "api" in listed
            assert manage(new, "shell", "-v", "0", "-c", SEEN) == before
            again = [sys.executable, "-m", "iota.moving", old["DATABASE_URL"]]
            ran = subprocess.run(again, cwd=ROOT, env=new, capture_output=True, text=True)
            assert ran.returncode == 1
            assert "the new database has rows in auth_user already" in ran.stderr
            # Numbers go on where the old ones end.
            assert int(manage(new, "shell", "-v", "0", "-c", ADD)) == 2
    finally:
        redis.stop()

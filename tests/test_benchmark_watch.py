"""A check that became a quarter slower is found, repeated, confirmed, shown and mailed: by the
schedule alone. The same history without it raises nothing.

Workers, beat, Valkey, the mail server and the site are real, and so is each measurement: what is
not is the code that is measured (``tests/slower.py``) and its commits, which are of a repository
of the test's own. The measure is ``check-processor``, which a busy machine moves by 1 %.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from aiosmtpd.controller import Controller

from .databases import copy, migrate, rows, url_of
from .servers import RedisProcess, free_port
from .sites import ROOT, SiteProcess, environment, manage

HISTORY = 20
LATER = 6
WAIT_S = 120
ADMIN = "ada@example.com"
EACH_SECONDS = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
row = PeriodicTask.objects.get(name="Benchmarks: the full set, weekly")
row.kwargs, row.crontab = '{"benchmarks": ["check-processor"]}', None
row.interval = IntervalSchedule.objects.create(every=2, period="seconds")
row.expires, row.expire_seconds = None, 10
row.save()
"""
FOUND = """
SELECT found.state, found.better, found.told_at, found.ratio, found.evidence, run."commit", run.id,
       metric.benchmark, metric.metric, metric.contestant
FROM benchmarks_regression AS found
JOIN benchmarks_benchmarkrun AS run ON run.id = found.run_id
JOIN benchmarks_metric AS metric ON metric.id = found.metric_id
WHERE found.state <> 'refuted' ORDER BY found.id
"""
RERUNS = 'SELECT state, "commit" FROM benchmarks_benchmarkrun WHERE rerun_of_id = %s'
DONE = (
    "SELECT count(*) FROM benchmarks_benchmarkrun WHERE \"trigger\" = 'schedule' AND state = 'done'"
)


@dataclass(frozen=True)
class Found:
    """A regression that was not refuted."""

    state: str
    better: bool
    told: bool
    ratio: float
    evidence: dict
    commit: str
    metric: str
    reruns: list[tuple[str, str]]


class Mailbox:
    """A mail server that keeps what it is given."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], str]] = []
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.start, self.stop = self._controller.start, self._controller.stop

    async def handle_DATA(self, server, session, envelope):
        self.letters.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


class Watched:
    """A site in a folder of its own: its database, Valkey, mail server, repository, processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mailbox = Mailbox()
        self.redis = RedisProcess().start()
        self.repository = folder / "repository"
        self.environment = environment(
            folder,
            self.redis.url,
            IOTA_ADMINS=ADMIN,
            IOTA_MAIL_URL=f"smtp://127.0.0.1:{self.mailbox.port}",
            DJANGO_SETTINGS_MODULE="iota.settings",
            GIT_DIR=str(self.repository / ".git"),
            GIT_WORK_TREE=str(self.repository),
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self.mailbox.start()

    def commit(self, message: str) -> str:
        """An empty one: how the code changes is the worker's application."""
        who = ["-c", "user.name=Ada", "-c", f"user.email={ADMIN}"]
        if not self.repository.exists():
            self.repository.mkdir()
            self._git("init", "--quiet", "--initial-branch", "main")
        self._git(*who, "commit", "--quiet", "--allow-empty", "--message", message)
        return self._git("rev-parse", "HEAD")

    def _git(self, *words: str) -> str:
        ran = subprocess.run(
            ["git", *words], env=self.environment, check=True, capture_output=True, text=True
        )
        return ran.stdout.strip()

    def start(self, application: str) -> None:
        """The worker that measures, of this application; any other's worker; beat."""
        measuring = ["worker", "--queues", "benchmarks", "--concurrency", "1"]
        self._celery(application, *measuring, "--hostname", "benchmarks@%h")
        self._celery("iota", "worker", "--concurrency", "1", "--hostname", "rest@%h")
        self._celery("iota", "beat", "--pidfile", "", "--max-interval", "1")

    def _celery(self, application: str, *words: str) -> None:
        command = [sys.executable, "-m", "celery", "--app", application, *words]
        with (self.folder / "celery.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def stop(self) -> None:
        """Beat first, so that nothing new begins; a worker ends with what it measures."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def close(self) -> None:
        self.stop()
        self.redis.stop()
        self.mailbox.stop()

    def shell(self, code: str) -> str:
        return manage(self.environment, "shell", "-v", "0", "-c", code)

    def found(self) -> list[Found]:
        """By a query: the start of a Django each half second would be measured along."""
        url = self.environment["DATABASE_URL"]
        return [
            Found(
                state=state,
                better=bool(better),
                told=told_at is not None,
                ratio=ratio,
                evidence=json.loads(evidence),
                commit=commit,
                metric=" ".join(part for part in words if part),
                reruns=rows(url, RERUNS, (run,)),
            )
            for state, better, told_at, ratio, evidence, commit, run, *words in rows(url, FOUND)
        ]

    def runs(self, *, of: str = "") -> int:
        """Done, by the schedule."""
        query = DONE + (' AND "commit" = %s' if of else "")
        return rows(self.environment["DATABASE_URL"], query, (of,) if of else ())[0][0]

    def wait(self, what, text: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not what():
            said = (self.folder / "celery.log").read_text(errors="replace")[-4_000:]
            assert time.monotonic() < deadline, f"{text}: not in {WAIT_S} s\n{said}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a history of twenty runs of one commit, measured here, by the schedule."""
    made = Watched(tmp_path_factory.mktemp("measured"))
    try:
        made.commit("As fast as ever")
        migrate(made.environment)
        made.shell(EACH_SECONDS)
        made.start("iota")
        made.wait(lambda: made.runs() >= HISTORY, f"{HISTORY} runs")
        made.stop()
        assert made.mailbox.letters == []
        yield made.folder
    finally:
        made.close()


@pytest.fixture
def site(measured, tmp_path):
    """The same history again, with servers of its own."""
    copy(url_of(measured), url_of(tmp_path))
    shutil.copytree(measured / "repository", tmp_path / "repository")
    made = Watched(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_quarter_slower_is_confirmed_shown_and_mailed_by_the_schedule_alone(site):
    slower = site.commit("Make some checks twice")
    site.start("tests.slower")
    site.wait(lambda: site.mailbox.letters, "a mail")
    site.stop()
    (found,) = site.found()
    assert (found.state, found.better, found.told) == ("confirmed", False, True)
    assert found.metric == "check-processor processor time per check, a fixed loop being 1 iota"
    assert found.commit == slower
    assert found.reruns == [("done", slower)] * 4
    # A quarter, give or take what a shared machine adds.
    assert 1.08 < found.ratio < 1.4
    assert found.evidence["new_n"] == 5
    ((receivers, letter),) = site.mailbox.letters
    letter = letter.replace("=\r\n", "").replace("\r\n ", " ")
    assert receivers == [ADMIN]
    assert re.search(r"Subject: .*check-processor.* \d+ % more than the last 20 runs", letter)
    assert slower[:12] in letter
    trend = page(site, "/admin/benchmarks/metric/trends/")
    assert re.search(rf'id="verdict"[^>]*>.*\d+ % more since {slower[:7]}, confirmed\.', trend)
    assert "worse: confirmed" in trend


def test_the_same_history_without_it_raises_nothing(site):
    """A busy machine may make a run suspect: its reruns refute it, and nobody hears of it."""
    same = site.commit("Another text on the start page")
    site.start("iota")
    site.wait(lambda: site.runs(of=same) >= LATER, f"{LATER} runs")
    site.wait(lambda: not any(one.state == "suspected" for one in site.found()), "a verdict")
    site.stop()
    # The last run may be suspect still: nothing was to repeat it any more.
    assert [one for one in site.found() if one.state != "suspected"] == []
    assert site.mailbox.letters == []
    assert ", confirmed" not in page(site, "/admin/benchmarks/metric/trends/")


def page(site: Watched, path: str) -> str:
    """As staff see it."""
    password = {**site.environment, "DJANGO_SUPERUSER_PASSWORD": "a-password-of-the-test"}
    superuser = ("createsuperuser", "--noinput", "--username", "ada", "--email", "")
    manage(password, *superuser)
    process = SiteProcess(site.folder, site.environment).start()
    try:
        session = requests.Session()
        login = f"{process.url}/admin/login/"
        session.get(login, timeout=30)
        form = {"username": "ada", "password": "a-password-of-the-test"}
        form["csrfmiddlewaretoken"] = session.cookies["csrftoken"]
        session.post(login, form, timeout=30)
        answer = session.get(f"{process.url}{path}", timeout=60)
        assert answer.status_code == 200
        return " ".join(answer.text.split())
    finally:
        process.stop()

"""The limiter as a wheel, and sites of others that it is installed in, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from .servers import free_port

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0
DEPRECATED = "error::DeprecationWarning,error::PendingDeprecationWarning"
"""What Django's next version drops is an error here."""

PAGE = """
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("hello/", lambda request: HttpResponse("hello")),
]
"""


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel, made of the sdist, and the sdist. ``folder`` is empty."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "apps" / "ratelimits", source / "apps" / "ratelimits", ignore=ignored)
    # What must not be taken along is there to be taken.
    shutil.copytree(ROOT / "tests" / "performance", source / "tests", ignore=ignored)
    for name in ("pyproject.toml", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    run([*command, str(source)], ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What it writes to stdout. Checks that it succeeds."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run(
        command, cwd=folder, env=environment or env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{' '.join(command)}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def python_from(minimum: tuple[int, int]) -> str | None:
    """The oldest Python of this machine from ``minimum`` on, by pyenv or on the PATH."""
    found: dict[tuple[int, ...], str] = {}
    for command in [sys.executable, *_by_pyenv(), *_on_the_path()]:
        with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
            code = "import ensurepip, sys; print(*sys.version_info[:3])"
            said = subprocess.run(
                [command, "-c", code], capture_output=True, text=True, check=True
            ).stdout
            found.setdefault(tuple(map(int, said.split())), command)
    return min(((v, command) for v, command in found.items() if v >= minimum), default=(0, None))[1]


def _by_pyenv() -> list[str]:
    if shutil.which("pyenv") is None:
        return []
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True)
    said = [
        subprocess.run(["pyenv", "prefix", version], capture_output=True, text=True).stdout.strip()
        for version in listed.stdout.split()
    ]
    return [f"{prefix}/bin/python" for prefix in said if prefix]


def _on_the_path() -> list[str]:
    found = (shutil.which(f"python3.{minor}") for minor in range(11, 20))
    return [command for command in found if command]


class Site:
    """A fresh ``startproject`` in a virtual environment of its own."""

    def __init__(self, folder: Path, python: str, redis_url: str) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.redis_url = redis_url
        self._bin = folder / "venv" / "bin"
        self.environment = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", str(folder)),
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": redis_url,
            "IOTA_IDENTITY_KEY": "identity-key-of-a-site-of-ours-0123456789",
        }
        run([python, "-m", "venv", str(folder / "venv")], folder)

    def install(self, *requirements: str) -> None:
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        run([str(self._bin / "python"), *pip], self.folder)

    def start_project(self) -> None:
        self.python("-m", "django", "startproject", "mysite", ".")
        (self.folder / "mysite" / "urls.py").write_text(PAGE)

    def configure(self, *blocks: str) -> None:
        with (self.folder / "mysite" / "settings.py").open("a") as settings:
            settings.write("\n" + "\n".join(blocks))

    def python(self, *words: str) -> str:
        return run([str(self._bin / "python"), *words], self.folder, self.environment)

    def manage(self, *words: str) -> str:
        return self.python("manage.py", *words)

    def script(self, code: str) -> str:
        """Within the site, with Django set up."""
        setup = 'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"\n'
        (self.folder / "script.py").write_text(f"{setup}import django\ndjango.setup()\n{code}")
        return self.python("script.py")

    def shell(self, block: str) -> str:
        """A block of a guide, as somebody pastes it."""
        return run(["bash", "-euc", block], self.folder, self.environment)

    @contextmanager
    def started(self, *command: str) -> Iterator[Path]:
        """A process of it, stopped at the end; its log."""
        log = self.folder / "process.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(self._bin / "python"), *command],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield log
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def serving(self, *command: str) -> Iterator[str]:
        """Its address, once it answers; ``{port}`` in the command is the port."""
        port = free_port()
        words = command or ("manage.py", "runserver", "--noreload", "127.0.0.1:{port}")
        with self.started(*(word.format(port=port) for word in words)) as log:
            deadline = time.monotonic() + START_S
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/nowhere", timeout=5)
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"

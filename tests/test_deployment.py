"""Dockerfile, docker-compose.yml and what lies in deploy/, held to the facts of this project.

Whether the file is Compose's language at all, ``make lint`` asks the specification's schema; what
its services do together is tried by ``make test-topology``.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import granian.cli
import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from iota.variables import VARIABLES
from tests.topology import image
from tests.topology.compose import ROOT, NotSet, filled_in, services, variables_of

ALL = ("benchmarks", "cluster", "load", "monitoring")
SITE = {"ALLOWED_HOSTS": "iota.example.com"}
GUIDE = (ROOT / "docs/guides/deploying.md").read_text()
ENTRY_POINT = (ROOT / "deploy/entrypoint.sh").read_text()
ROLES = re.findall(r"^(\w+)\)", ENTRY_POINT, re.MULTILINE)


@pytest.fixture(scope="module")
def compose():
    return services(SITE, ALL)


@pytest.fixture(scope="module")
def ours(compose):
    return {name: one for name, one in compose.items() if one.ours}


@pytest.fixture(scope="module")
def made_secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "secrets"
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRETS": str(folder)}
    subprocess.run(["sh", "deploy/secrets.sh"], cwd=ROOT, env=environment, check=True)


def test_what_runs_is_what_operations_say_must_run(compose):
    by_default = set(services(SITE))
    assert by_default == {
        "beat", "migrate", "monitoring", "postgres", "rabbitmq", "valkey", "web", "worker",
    }  # fmt: skip
    assert sum(name.startswith("node") for name in compose) == 6


def test_every_variable_is_one_that_the_project_reads(ours):
    known = {variable.name for variable in VARIABLES}
    beside = {"CELERY_CONCURRENCY", "WEB_STOP_SECONDS"}
    for name in beside:
        assert f"${{{name}:-" in ENTRY_POINT
    of_granian = {f"GRANIAN_{param.name.upper()}" for param in granian.cli.cli.params}
    for name, service in ours.items():
        for variable in {**image.variables(), **service.environment}:
            if variable.startswith("GRANIAN_"):
                assert variable in of_granian, name
            elif not variable.startswith(("PYTHON", "DJANGO_SETTINGS_MODULE")):
                assert variable.removesuffix("_FILE") in known | beside, name


def test_what_a_site_can_choose_is_explained():
    assert [name for name in sorted(variables_of()) if f"`{name}`" not in GUIDE] == []


def test_without_the_names_of_the_site_it_says_what_is_missing():
    with pytest.raises(NotSet, match="ALLOWED_HOSTS: the names of the site"):
        services({})


def test_variables_are_filled_in_as_compose_does():
    variables = {"A": "one", "EMPTY": ""}
    text = "${A} ${B} ${B:-two} ${EMPTY:-three} ${A:-four} $$HOME"
    assert filled_in(text, variables) == "one  two three one $HOME"


def test_secrets_are_files_and_every_service_has_those_that_it_names(compose):
    for name, service in compose.items():
        for variable, value in service.environment.items():
            if re.search("PASSWORD|SECRET|TOKEN|_KEY", variable):
                assert variable.endswith("_FILE"), name
            if value.startswith("/run/secrets/"):
                assert value in service.secrets, name
        words = " ".join(service.command)
        for path in re.findall(r"/run/secrets/\w+", words):
            assert path in service.secrets, name


@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_every_secret_is_made_by_the_script(kind, made_secrets):
    for name, service in services({**SITE, "IOTA_REDIS": kind}, ALL).items():
        for path in service.secrets.values():
            assert path.parent == ROOT / "secrets", name
            assert len((made_secrets / path.name).read_text().strip()) >= 32, path


def test_the_script_makes_each_secret_once_for_a_user_in_a_container_to_read(tmp_path):
    folder = tmp_path / "secrets"
    make_secrets(folder)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    made = [text for name, text in first.items() if name.endswith(("_key", "_password", "_token"))]
    assert len(set(made)) == len(made) > 5
    (folder / "metrics_token").unlink()
    make_secrets(folder)
    second = {path.name: path.read_text() for path in folder.iterdir()}
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] != second[name]] == ["metrics_token"]


def test_passwords_are_the_same_on_both_sides(made_secrets):
    users = (made_secrets / "valkey_users").read_text()
    for name, file in (
        ("iota", "redis_password"),
        ("iota-operator", "redis_operator_password"),
        ("iota-sweeper", "redis_sweeper_password"),
        ("iota-replica", "redis_replica_password"),
        ("iota-admin", "redis_admin_password"),
    ):
        password = (made_secrets / file).read_text().strip()
        assert f"user {name} on #{sha256(password.encode()).hexdigest()} " in users
    assert "user default off" in users
    assert "user iota-sentinel off" in users
    broker = (made_secrets / "broker_password").read_text().strip()
    assert f"iota:{broker}@rabbitmq:5672" in (made_secrets / "celery_broker_url").read_text()
    assert f"default_pass = {broker}\n" in (made_secrets / "rabbitmq_user").read_text()


def test_every_command_is_a_role_of_the_entry_point(ours):
    for name, service in ours.items():
        assert service.command[0] in ROLES, name
    assert not set(ROLES) & set(get_commands()) - {"migrate"}
    assert os.access(ROOT / "deploy/entrypoint.sh", os.X_OK)


def test_every_queue_has_a_worker():
    queues = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    taken = set(",".join(re.findall(r"--queues (\S+)", ENTRY_POINT)).split(","))
    assert queues - taken == set()
    # The worker without a queue takes the default one.
    assert re.search(r"^worker\) worker --hostname worker@%h --concurrency", ENTRY_POINT, re.M)


def test_images_are_pinned(compose):
    for name, service in compose.items():
        tag = service.image.partition(":")[2]
        assert re.match(r"v?\d+\.\d+\.\d+(-\w+)?$|\d+\.\d+-\w+$", tag), name
    required = (ROOT / "requirements.txt").read_text()
    assert f"locust=={compose['locust'].image.partition(':')[2]}\n" in required
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert compose["web"].image == f"iota:{version[1]}"


def test_every_service_is_asked_how_it_is(compose):
    once = {"migrate", "make-cluster"}
    for name, service in compose.items():
        asked = "test" in service.healthcheck
        assert asked or name in once or service.healthcheck == {"disable": True}, name
    assert compose["web"].healthcheck["test"][-1] == "/app/deploy/healthcheck.py"


def test_containers_have_no_rights_that_they_do_not_use(compose, ours):
    for name, service in compose.items():
        hardened = "no-new-privileges:true" in service.told.get("security_opt", ())
        assert hardened or name == "make-cluster", name
    for name, service in ours.items():
        assert service.told["read_only"] is True, name
        assert service.told["cap_drop"] == ["ALL"], name


def test_nothing_is_published_beyond_this_machine_unless_asked_for(compose):
    for name, service in compose.items():
        for port in service.told.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_who_comes_by_the_published_port_is_the_trusted_proxy(ours):
    network = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["networks"]["default"]
    gateway = network["ipam"]["config"][0]["gateway"]
    assert ours["web"].environment["IOTA_TRUSTED_PROXIES"] == f"{gateway}/32"


def test_processes_are_counted_as_many_as_there_are(ours):
    for chosen in ("2", "7"):
        web = services({**SITE, "WEB_PROCESSES": chosen})["web"].environment
        assert web["IOTA_LOCAL_PROCESSES"] == web["GRANIAN_WORKERS"] == chosen


def test_what_is_asked_to_end_has_the_time_for_it(ours):
    for service in ours.values():
        assert service.stop_grace_s >= 30
    web = ours["web"]
    assert int(web.environment["WEB_STOP_SECONDS"]) < web.stop_grace_s


def test_the_clusters_nodes_are_those_that_the_site_is_told(compose, made_secrets):
    nodes = [one for name, one in compose.items() if name.startswith("node")]
    words = " ".join(compose["make-cluster"].command)
    for node in nodes:
        assert f"{node.address}:6379" in words
        assert f"{node.name}:6379" in (made_secrets / "redis_url.cluster").read_text()
    assert "--cluster-replicas 1" in words


def test_grafana_finds_its_prometheus_and_its_dashboard(compose):
    provisioning = ROOT / "deploy/grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    told = yaml.safe_load((provisioning / "dashboards/iota.yml").read_text())
    within = told["providers"][0]["options"]["path"] + "/iota.json"
    assert compose["grafana"].volumes[within] == ROOT / "deploy/grafana/iota.json"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_prometheus_takes_its_file(compose, tmp_path):
    for within, here in compose["prometheus"].volumes.items():
        shutil.copy2(here, tmp_path / Path(within).name)
    config = tmp_path / "compose.yml"
    token = tmp_path / "token"
    token.write_text("t" * 32)
    config.write_text(config.read_text().replace("/etc/prometheus/iota-metrics-token", str(token)))
    said = subprocess.run(
        ["promtool", "check", "config", str(config)], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "web:8000" in config.read_text()


def test_the_image_runs_as_nobody_special():
    told = image.instructions()
    users = [rest for word, rest in told if word == "USER"]
    assert users == ["10001:10001"]
    places = {word: at for at, (word, _) in enumerate(told)}
    assert places["USER"] < places["ENTRYPOINT"]
    entry = [rest for word, rest in told if word == "ENTRYPOINT"]
    assert entry == ['["/app/deploy/entrypoint.sh"]']
    assert [rest for word, rest in told if word == "EXPOSE"] == ["8000"]
    assert image.variables()["GRANIAN_PORT"] == "8000"
    assert "healthcheck.py" in dict(told)["HEALTHCHECK"]
    assert not {name for name in image.variables() if re.search("KEY|PASSWORD|TOKEN", name)}
    assert re.search(r"ARG PYTHON=3\.11\.\d+-slim", image.DOCKERFILE.read_text())


def test_the_image_has_what_runs_and_nothing_else():
    let_in, left_out = image.ignored()
    assert [name for name in let_in if not (ROOT / name).exists()] == []
    assert {"tests", "__pycache__"} <= set(left_out)
    for never in ("secrets", ".env", "var", ".git", "tests", "docker-compose.yml"):
        assert never not in let_in
    # What the code reads beside itself.
    assert "docs/guides" in let_in


class Answering(http.server.BaseHTTPRequestHandler):
    status = 200
    seen: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def healthcheck(port: int) -> int:
    environment = {"GRANIAN_PORT": str(port), "ALLOWED_HOSTS": ".example.com,web"}
    command = [sys.executable, "deploy/healthcheck.py"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (301, 1)])
def test_the_health_check_asks_the_site_by_its_name(status, code, monkeypatch):
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "seen", [])
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert healthcheck(server.server_port) == code
        thread.join()
    assert Answering.seen == [("/healthz", "example.com")]


def test_the_health_check_says_no_where_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert healthcheck(port) == 1

from __future__ import annotations

import redis

from apps.benchmarks import fingerprint
from apps.benchmarks.servers import embedded_valkey

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz
cpu MHz\t\t: 2793.437
processor\t: 1
model name\t: another
"""
GRAVITON = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


def cpuinfo(folder, text):
    path = folder / "cpuinfo"
    path.write_text(text)
    return path


def test_the_models_name_is_without_its_clock(tmp_path):
    found = fingerprint.cpu_model(cpuinfo(tmp_path, XEON))
    assert found == "Intel(R) Xeon(R) Platinum 8370C CPU"


def test_a_processor_without_a_name_is_told_by_its_part(tmp_path):
    assert fingerprint.cpu_model(cpuinfo(tmp_path, GRAVITON)).endswith(" part 0xd0c")


def test_there_is_always_some_name(tmp_path):
    assert fingerprint.cpu_model(tmp_path / "missing")


def test_security_updates_change_nothing():
    assert fingerprint.two_numbers("6.1.0-18-amd64") == "6.1"
    assert fingerprint.two_numbers("3.11.9") == "3.11"
    assert fingerprint.two_numbers("unknown") == "unknown"


def test_the_digest_is_of_the_fields_not_of_their_order():
    one = fingerprint.digest({"cores": 2, "os": "debian 12"})
    assert one == fingerprint.digest({"os": "debian 12", "cores": 2})
    assert one != fingerprint.digest({"os": "debian 12", "cores": 4})
    assert len(one) == 32


def test_a_machine_is_the_same_twice_and_its_readings_are_of_now():
    with embedded_valkey() as server, redis.Redis.from_url(server.url) as client:
        fields = fingerprint.fields(server, client)
        assert fields == fingerprint.fields(server, client)
        read = fingerprint.readings(client)
    assert fields["server"].startswith("valkey ")
    assert fields["cores"] >= 1
    assert fields["memory_gib"] >= 1
    assert not [name for name in fields if "mhz" in name.lower()]
    assert 0 < read.ping_us < 1e6
    assert 0 < read.loop_us < 1e6

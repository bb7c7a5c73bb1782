"""The watch by a real worker with a real beat: samples come by themselves, every ten seconds."""

from __future__ import annotations

import json

AT = "SELECT COUNT(DISTINCT at) >= 2 FROM monitoring_sample"
RATES = """
SELECT s.at, s."values" FROM monitoring_sample s JOIN monitoring_source o ON o.id = s.source_id
WHERE o.kind = 'node' ORDER BY s.at
"""


def test_samples_come_by_themselves(worker, tmp_path):
    schedule = ["--beat", "--schedule", str(tmp_path / "beat")]
    worker.start(1, *schedule, queue="monitoring")
    worker.wait(AT, [(1,)])
    rows = worker.rows(RATES)
    first, second = (json.loads(values) for _, values in rows[:2])
    assert first["ops_per_s"] is None
    assert second["ops_per_s"] > 0
    assert all(str(at)[18] == "0" for at, _ in rows)  # whole tens of seconds
    kinds = "SELECT kind, error FROM monitoring_source ORDER BY kind"
    assert worker.rows(kinds) == [("broker", ""), ("limiter", ""), ("node", "")]
    assert worker.rows("SELECT ended_at IS NOT NULL FROM monitoring_turn WHERE job = 'sample'") == [
        (1,)
    ]

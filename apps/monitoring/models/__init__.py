"""What is kept of the watch: sources and their samples, rules and their alerts, who is told,
and what the doctor found."""

from .alerts import Alert, AlertRule, RuleState, Silence
from .diagnosis import Diagnosis
from .notifications import Channel, Notification, Told
from .samples import Sample, Source, Turn

__all__ = [
    "Alert",
    "AlertRule",
    "Channel",
    "Diagnosis",
    "Notification",
    "RuleState",
    "Sample",
    "Silence",
    "Source",
    "Told",
    "Turn",
]

"""The staff's pages; one module per page."""

from . import alert_rules, alerts, channels, doctor, health, samples, silences

__all__ = ["alert_rules", "alerts", "channels", "doctor", "health", "samples", "silences"]

"""What staff edit, and the version that tells processes of it."""

from .limit import RateLimit, WindowUnit
from .override import Override
from .preview import PreviewRun
from .published import RulesetVersion
from .sweep import SweepRun
from .usage import LimitRollUp, RolledUp, TotalRollUp

__all__ = [
    "LimitRollUp",
    "Override",
    "PreviewRun",
    "RateLimit",
    "RolledUp",
    "RulesetVersion",
    "SweepRun",
    "TotalRollUp",
    "WindowUnit",
]

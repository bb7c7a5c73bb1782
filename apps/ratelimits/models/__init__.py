"""What staff edit, and the version that tells processes of it."""

from .limit import RateLimit, WindowUnit
from .override import Override
from .preview import PreviewRun
from .published import RulesetVersion
from .sweep import SweepRun

__all__ = ["Override", "PreviewRun", "RateLimit", "RulesetVersion", "SweepRun", "WindowUnit"]

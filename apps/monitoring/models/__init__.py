"""What is kept of the watch: sources and their samples."""

from .samples import Sample, Source, Turn

__all__ = ["Sample", "Source", "Turn"]

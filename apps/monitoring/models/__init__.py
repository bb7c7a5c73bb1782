"""What is kept of the watch: sources and their samples, and what the doctor found."""

from .diagnosis import Diagnosis
from .samples import Sample, Source

__all__ = ["Diagnosis", "Sample", "Source"]

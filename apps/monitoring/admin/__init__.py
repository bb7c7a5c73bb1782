"""The pages, a module each."""

from . import health as health
from . import samples as samples

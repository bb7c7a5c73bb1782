"""The pages, a module each."""

from . import doctor as doctor

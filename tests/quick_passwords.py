"""The site's settings, with passwords that are quick to check: for tests that guess them."""

from iota.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

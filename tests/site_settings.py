"""The site's settings, with views for tests, and passwords that are quick to check."""

from iota.settings import *  # noqa: F403

ROOT_URLCONF = "tests.site_urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

"""The site's settings, with the addresses of ``tests/shop.py``."""

from iota.settings import *  # noqa: F403

ROOT_URLCONF = "tests.shop"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

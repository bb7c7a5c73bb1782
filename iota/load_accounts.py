"""Users with sessions, and API keys of the demo, for a load test: made beforehand, since each
log-in costs a good part of a second on purpose. Only for a site that the load test has for itself.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import AbstractUser

BACKEND = "django.contrib.auth.backends.ModelBackend"
NOBODY_SIGNS_IN = "!"
MOST_KEYS = 999
"""Of ``iota/demo_keys.py``."""


def write(path: Path, users: int) -> None:
    """The file that ``loadtests/accounts.py`` reads, for its owner's eyes only."""
    model = get_user_model()
    made = model.objects.bulk_create(
        model(username=f"load-{number}", password=NOBODY_SIGNS_IN) for number in range(users)
    )
    staff = model.objects.create(
        username="load-staff", password=NOBODY_SIGNS_IN, is_staff=True, is_superuser=True
    )
    found = {
        "cookie": settings.SESSION_COOKIE_NAME,
        "users": [[str(user.pk), _session(user)] for user in made],
        "keys": [f"demo-{number}" for number in range(1, MOST_KEYS + 1)],
        "staff": [str(staff.pk), _session(staff)],
    }
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(found, file)


def _session(user: AbstractUser) -> str:
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)

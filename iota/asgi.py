"""What an ASGI server runs."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from .database import pooled
from .serving import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")
settings.DATABASES["default"] = pooled(settings.DATABASES["default"])

application = get_asgi_application()
settle()

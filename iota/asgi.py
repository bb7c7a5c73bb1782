"""What an ASGI server runs."""

import os

from django.core.asgi import get_asgi_application

from .serving import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")

application = get_asgi_application()
settle()

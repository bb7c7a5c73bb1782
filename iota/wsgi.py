"""What a WSGI server runs."""

import os

from django.core.wsgi import get_wsgi_application

from .serving import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")

application = get_wsgi_application()
settle()

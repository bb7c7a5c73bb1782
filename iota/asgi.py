"""What an ASGI server runs."""

import gc
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")

application = get_asgi_application()
# As in wsgi.py.
gc.collect()
gc.freeze()

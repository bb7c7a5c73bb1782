"""What a WSGI server runs."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")

application = get_wsgi_application()
# What is there now stays: no collection has to look through it again, while requests wait.
gc.collect()
gc.freeze()

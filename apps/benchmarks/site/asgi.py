"""What granian runs for the async benchmarks."""

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.benchmarks.site.settings"

application = get_asgi_application()

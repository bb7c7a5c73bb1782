"""What granian runs for the sync benchmarks."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.benchmarks.site.settings"

application = get_wsgi_application()

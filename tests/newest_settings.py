"""The site's settings without what the newest Django warns of, for `make test-django`.

EMAIL_* became MAILERS in Django 6.1, which 5.2 does not know; the limiter sends no mail.
"""

from iota.settings import *  # noqa: F403

for name in [name for name in globals() if name.startswith("EMAIL_")]:
    del globals()[name]

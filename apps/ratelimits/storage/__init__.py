"""Redis only: neither the ORM nor requests are known here."""

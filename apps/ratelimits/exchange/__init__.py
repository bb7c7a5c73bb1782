"""Limits and overrides as files: for version control, for another site, for a spreadsheet.

=================  ==================================================================
``widgets.py``     a field's value as the word, number or list that stands in the file
``formats.py``     JSON, YAML and CSV: text -> rows -> text, the same bytes each time
``importing.py``   rows of a file: all of them or none, checked as the admin's form checks them
``resources.py``   which rows: limits and overrides, and how each is found
``changes.py``     what an import does, field by field, in words and for programs
=================  ==================================================================

All of it stands on django-import-export, which a site need not have: only the admin's pages and the
commands import these modules, and do without them where it is missing.
"""

from importlib.util import find_spec


def is_available() -> bool:
    """Whether this site has what importing and exporting needs."""
    return find_spec("import_export") is not None and find_spec("yaml") is not None

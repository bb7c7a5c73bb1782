"""Pure policy: values and arithmetic, no I/O, no Django, the clock passed in."""

"""What ``doctor`` looks at, a module per subject; importing one registers its hooks."""

MODULES = ("servers", "ruleset")

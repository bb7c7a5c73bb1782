"""What the pages say of rights and reasons, in the same words everywhere."""

RIGHT = "the right “Can enforce limits, and change what is enforced”"
NOT_YOURS = f"Only with {RIGHT}, as the group Rate limit publishers has it."
READ_ONLY = (
    f"This is in force, and shown read only. To change it: {NOT_YOURS[0].lower()}{NOT_YOURS[1:]}"
)
MEANWHILE = (
    f"Not saved: it has come into force meanwhile. To change it takes {RIGHT}. Your browser's way "
    "back leads to what you typed in."
)
REASON_MISSING = "Say why: this changes what is enforced."
NOTHING_DONE = f"Nothing was changed. {REASON_MISSING}"
RENAMED = (
    "The site's code asks for this limit by its name, and what nobody has made denies requests "
    "(IOTA_UNKNOWN_LIMIT): a publisher can rename it."
)

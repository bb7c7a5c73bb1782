"""What a shell or a CI is told."""

FAILED = 1
USAGE = 2
CONFIRMED = 3
BUSY = 4

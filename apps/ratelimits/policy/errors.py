"""What can be wrong with a policy, said so that its author can mend it."""


class PolicyError(ValueError):
    """A rate, pattern or network that cannot be enforced; the text says what to change."""

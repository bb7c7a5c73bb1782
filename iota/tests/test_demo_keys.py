import pytest

from iota.demo_keys import whose_key


@pytest.mark.parametrize(
    ("value", "whose"),
    [("demo-7", "customer-7"), ("demo-0", None), ("demo-1000", None), ("demo-7\n", None)],
)
def test_only_the_demos_keys_are_known(value, whose):
    assert whose_key("x-api-key", value) == whose

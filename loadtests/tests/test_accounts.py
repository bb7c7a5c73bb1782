"""Sessions and keys from a file."""

import pytest

from loadtests.accounts import Accounts
from loadtests.promises import Unreadable


def test_a_file(tmp_path):
    path = tmp_path / "accounts.json"
    path.write_text('{"cookie": "s", "users": [["7", "abc"]], "keys": ["k"], "staff": ["1", "d"]}')
    found = Accounts.read(path)
    assert found == Accounts("s", [("7", "abc")], ["k"], ("1", "d"))
    path.write_text("{}")
    assert Accounts.read(path) == Accounts()


@pytest.mark.parametrize("content", ["{", "[]", '{"users": [1]}'])
def test_what_is_none_says_so(tmp_path, content):
    path = tmp_path / "accounts.json"
    path.write_text(content)
    with pytest.raises(Unreadable, match=r"loadtests/accounts\.py shows"):
        Accounts.read(path)
    with pytest.raises(Unreadable, match="No such file"):
        Accounts.read(tmp_path / "nothing.json")

"""A form as a browser would send it."""

from loadtests.forms import changed, fields_of

PAGE = """
<form id="other"><input name="no" value="1"></form>
<form id="limit" method="post">
  <input type="hidden" name="csrfmiddlewaretoken" value="t&amp;t">
  <input name="quota" value="100"><input name="empty">
  <input type="checkbox" name="on" checked><input type="checkbox" name="off" value="x">
  <input type="radio" name="r" value="1"><input type="radio" name="r" value="2" checked>
  <input type="submit" name="_save" value="Save"><input name="gone" value="1" disabled>
  <select name="mode"><option value="shadow">S</option><option value="enforce" selected>E</option></select>
  <select name="first"><option value="1">1</option><option value="2">2</option></select>
  <select name="many" multiple><option value="1">1</option></select>
  <textarea name="text">
a &lt; b</textarea>
</form>
<input name="after" value="1">
"""  # noqa: E501


def test_what_a_browser_sends():
    assert fields_of(PAGE, "limit") == [
        ("csrfmiddlewaretoken", "t&t"),
        ("quota", "100"),
        ("empty", ""),
        ("on", "on"),
        ("r", "2"),
        ("mode", "enforce"),
        ("first", "1"),
        ("text", "a < b"),
    ]


def test_a_value_is_changed_and_sent_once():
    assert changed([("a", "1"), ("b", "2")], a="3", c="4") == [("b", "2"), ("a", "3"), ("c", "4")]


def test_no_such_form():
    assert fields_of(PAGE, "nothing") == []

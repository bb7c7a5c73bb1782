from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.masking import PathJudge, masked_path
from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.policy.rules import Algorithm, PathKind, PathPattern, Rate, Rule, Ruleset


def digest(value: str) -> str:
    return f"d{sum(value.encode()):x}"


@pytest.mark.parametrize(
    ("path", "route", "masked"),
    [
        ("/", "", "/"),
        ("/api/test", "api/test", "/api/test"),
        (
            "/users/ada/posts/7",
            "users/<slug:name>/posts/<int:pk>",
            f"/users/{{{digest('ada')}}}/posts/{{{digest('7')}}}",
        ),
        ("/files/a/b.txt", "files/<path:name>", f"/files/{{*{digest('a/b.txt')}}}"),
        # A pattern in a regular expression: what is fixed of it.
        ("/old/ada/", r"^old/(?P<name>\w+)/$", f"/old/{{*{digest('ada/')}}}"),
        ("/admin/nowhere", r"admin/(?P<url>.*)$", f"/admin/{{{digest('nowhere')}}}"),
        # No view.
        ("/wp-login.php", None, "/wp-login.php"),
        ("/wp-admin/ada/secret", None, f"/wp-admin/{{*{digest('ada/secret')}}}"),
        ("/~ada/diary", None, f"/{{*{digest('~ada/diary')}}}"),
        ("/" + "a" * 21, None, "/{" + digest("a" * 21) + "}"),
        ("/ada@example.com/x", None, "/{*" + digest("ada@example.com/x") + "}"),
        ("/{x}", None, "/{" + digest("{x}") + "}"),
    ],
)
def test_what_a_path_is_kept_as(path, route, masked):
    assert masked_path(path, route, digest) == masked


def judge(kind: PathKind, value: str = "") -> PathJudge:
    return PathJudge(PathPattern(kind, value), lambda path: masked_path(path, USERS, digest))


USERS = "users/<str:name>/posts"


@pytest.mark.parametrize(
    ("kind", "value", "holds"),
    [
        (PathKind.ANY, "", True),
        (PathKind.PREFIX, "/users/", True),
        (PathKind.PREFIX, "/users/a", None),
        (PathKind.PREFIX, "/api/", False),
        (PathKind.EXACT, "/users/ada/posts", True),
        (PathKind.EXACT, "/users/bob/posts", False),
        (PathKind.GLOB, "/users/*/posts", True),
        (PathKind.GLOB, "/users/**", True),
        (PathKind.GLOB, "/users/?*/posts", True),
        (PathKind.GLOB, "/users/???/posts", None),
        (PathKind.GLOB, "/users/*/likes", False),
        (PathKind.GLOB, "/users/ada/*", None),
        (PathKind.GLOB, "/users/*", False),
        (PathKind.REGEX, "/users/.*", True),
        (PathKind.REGEX, "/users/[^/]+/posts", True),
        (PathKind.REGEX, r"^/users/.+\/posts$", True),
        (PathKind.REGEX, r"/users/\d+/posts", None),
        (PathKind.REGEX, "/users/(ada|bob)/.*", None),
        (PathKind.REGEX, r"/api/\d+", False),
        (PathKind.REGEX, "/users/[^/]+", False),
        (PathKind.VIEW, "posts", True),
        (PathKind.VIEW, "likes", False),
    ],
)
def test_what_a_pattern_says_of_it(kind, value, holds):
    assert judge(kind, value).holds(f"/users/{{{digest('ada')}}}/posts", "posts") is holds


def test_a_view_that_nobody_knows_cannot_be_told():
    assert judge(PathKind.VIEW, "posts").holds("/users/x", None) is None


ALPHABET = "ab/"


@given(
    pattern=st.text("ab/*?", max_size=6).map(lambda text: "/" + text),
    parts=st.lists(st.sampled_from(["a", "/", "b", "{}", "{*}"]), max_size=4),
)
def test_it_is_what_every_value_would_say(pattern, parts):
    """Against all short values: a certain yes or no is so of each of them."""
    path = "/" + "".join(parts)
    found = judge(PathKind.GLOB, pattern).holds(path, None)
    rate = Rate(Algorithm.FIXED_WINDOW, 1, 1, 1)
    rule = Rule(id=1, name="r", rate=rate, path=PathPattern(PathKind.GLOB, pattern))
    index = compile_ruleset(Ruleset(1, (rule,)))
    masks = re.findall(r"\{\*?\}", path)
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("abz/", repeat=n)][:100]
    values = [words if mask == "{*}" else [w for w in words if "/" not in w] for mask in masks]
    said = set()
    for chosen in itertools.islice(itertools.product(*values), 500):
        whole = path
        for value in chosen:
            whole = re.sub(r"\{\*?\}", value, whole, count=1)
        said.add(bool(index.candidates(RequestFacts("GET", whole, ""), 0)))
    if found is not None:
        assert said == {found}
    elif not masks:
        raise AssertionError("without a mask it can always be told")

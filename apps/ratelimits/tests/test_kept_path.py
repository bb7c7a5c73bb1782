"""A path as it may be kept: nothing in it that a person may have put there."""

from __future__ import annotations

import pytest
from django.http import HttpResponse
from django.urls import include, path, re_path

from apps.ratelimits.kept_path import kept_path
from apps.ratelimits.policy.identity import Digests

DIGESTS = Digests(b"key")


def view(request, **kwargs):
    return HttpResponse()


urlpatterns = [
    path("api/test", view, name="test"),
    path("users/<str:name>/posts/<int:pk>/", view, name="post"),
    path("shop/", include(([path("cart/", view, name="cart")], "shop"))),
    re_path(r"^old/(?P<who>[a-z@.]+)/$", view, name="old"),
    re_path(r"^any/.*$", view, name="any"),
    path("<slug:page>/", view, name="page"),
]


@pytest.fixture(autouse=True)
def own_urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("known", ["/api/test", "/shop/cart/"])
def test_a_path_without_arguments_is_kept_as_it_is(known):
    kept, name, whole = kept_path(known, DIGESTS)
    assert (kept, whole) == (known, True)
    assert name in ("test", "shop:cart")


def test_what_a_pattern_captures_becomes_a_digest():
    kept, name, whole = kept_path("/users/ada@example.com/posts/5/", DIGESTS)
    assert (name, whole) == ("post", False)
    assert kept.startswith("/users/<name ~")
    assert "/posts/<pk ~" in kept
    assert "ada" not in kept
    assert "5/" not in kept.replace("~", "")[-3:]
    again = kept_path("/users/ada@example.com/posts/5/", DIGESTS)[0]
    other = kept_path("/users/bob@example.com/posts/5/", DIGESTS)[0]
    assert again == kept != other


@pytest.mark.parametrize(
    "personal",
    [
        "/old/ada@example.com/", "/any/ada@example.com", "/ada-lovelace/", "/ada@example.com",
        "/api/ada@example.com", "/users/ada@example.com", "ada@example.com", "", "/",
        "/\udce9/ada@example.com",
    ],
)  # fmt: skip
def test_nothing_personal_stays(personal):
    kept, _, whole = kept_path(personal, DIGESTS)
    assert "ada" not in kept
    assert "example" not in kept
    assert not whole
    assert "~" in kept
    assert kept.isascii()


def test_of_an_unknown_path_the_part_that_a_pattern_has_stays():
    assert kept_path("/api/v9/ada", DIGESTS)[0].startswith("/api/~")
    assert kept_path("/wp-login.php", DIGESTS)[0].startswith("/~")


def test_a_site_that_came_to_other_patterns_knows_those(settings):
    assert kept_path("/shop/ada", DIGESTS)[0].startswith("/shop/~")
    settings.ROOT_URLCONF = "iota.urls"
    assert kept_path("/shop/ada", DIGESTS)[0].startswith("/~")

"""Paths of requests that another server got."""

from __future__ import annotations

import time

import pytest

from apps.ratelimits.policy.original import MAX_URI_CHARS, decoded_path, normal_path, request_path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/paid/x", "/paid/x"),
        ("/paid/x?a=/b#c", "/paid/x"),
        ("/%70aid/%78", "/paid/x"),
        ("//paid///x", "/paid/x"),
        ("/a/../paid/./x", "/paid/x"),
        ("/a/%2e%2e/paid/x", "/paid/x"),
        ("/a%2f..%2fpaid/x", "/paid/x"),
        ("/../../paid/x", "/paid/x"),
        ("/paid/x/", "/paid/x/"),
        ("/paid/x/.", "/paid/x/"),
        ("/paid/x/y/..", "/paid/x/"),
        ("http://elsewhere.example/paid/x", "/paid/x"),
        ("HTTP://elsewhere.example?x", "/"),
        ("paid/x", "/paid/x"),
        ("*", "/*"),
        ("", "/"),
        ("/", "/"),
        ("/..", "/"),
        ("/caf%C3%A9", "/café"),
        ("/caf\xc3\xa9", "/café"),
        ("/%ff", "/\ufffd"),
        ("/a%3Fb", "/a?b"),
        ("/a%", "/a%"),
    ],
)
def test_a_path_is_what_a_proxy_goes_by(uri, path):
    assert request_path(uri) == path


def test_the_longest_is_read_in_no_time():
    began = time.process_time()
    for filling in ("/..", "//", "/%2e", "%", "a"):
        longest = ("/paid/x/" + filling * MAX_URI_CHARS)[:MAX_URI_CHARS]
        assert len(request_path(longest)) <= MAX_URI_CHARS
    assert time.process_time() - began < 0.1


def test_it_is_known_as_it_came_too():
    uri = "http://shop/%70aid/x/..//../free?a=/../b"
    assert (decoded_path(uri), request_path(uri)) == ("/paid/x/..//../free", "/free")


def test_a_decoded_path_is_not_decoded_again():
    assert normal_path("/a//b/%2e%2e/c") == "/a/b/%2e%2e/c"

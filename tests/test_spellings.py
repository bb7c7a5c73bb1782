"""Every spelling of a path that reaches a view is counted, as the server and Django read it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.sites import SiteProcess, manage, running

LIMITS = """
from apps.ratelimits.models import RateLimit
for name, kind, value in (
    ("exact", "exact", "/api/test"),
    ("prefix", "prefix", "/api/"),
    ("glob", "glob", "/api/*"),
    ("regex", "regex", "/api/te[r-t]t"),
    ("view", "view", "api-test"),
):
    RateLimit.objects.create(name=name, path_kind=kind, path=value, quota=1_000_000)
"""
ALL = {"exact", "prefix", "glob", "regex", "view"}


@pytest.fixture(scope="module", params=["wsgi", "asginl"])
def site(request, tmp_path_factory) -> Iterator[SiteProcess]:
    with running(tmp_path_factory.mktemp("site"), interface=request.param) as (made, _):
        manage(made.environment, "shell", "--verbosity", "0", "-c", LIMITS)
        yield made.start()
        assert "Traceback" not in made.said()


def ask(site: SiteProcess, target: bytes, *fields: bytes) -> tuple[int, set[str], bytes]:
    """Status, names of the limits that counted it, and body: of a request as it is written here."""
    lines = [b"GET " + target + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *fields]
    with socket.create_connection(("127.0.0.1", site.port), 10) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    if not answer:
        return 0, set(), b""  # The server would not talk about it.
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    (policies,) = [
        line.partition(b":")[2].decode()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"ratelimit-policy:")
    ] or [""]
    return status, {part.split('"')[1] for part in policies.split(",") if part}, body


REACH = [
    b"/api/test",
    b"/api/test?",
    b"/api/test?x=%00&y=../",
    b"/%61pi/test",
    b"/api/%74est",
    b"/%61%70%69/%74%65%73%74",
    b"/api%2Ftest",
    b"/api%2ftest",
    b"/api/tes%74?/other",
    b"http://localhost/api/test",
    b"http://evil.example/api/test",
]
DO_NOT = [
    b"/api/test/",
    b"//api/test",
    b"/api//test",
    b"/api/./test",
    b"/api/../api/test",
    b"/api/%2e/test",
    b"/api/%2e%2e/api/test",
    b"/api/test/..",
    b"/api\\test",
    b"/api%5ctest",
    b"/api/test;x=1",
    b"/api;x/test",
    b"/api/test%3b",
    b"/api/test.",
    b"/api/test%2e",
    b"/api/test...",
    b"/api/test%00",
    b"/api/test%00.png",
    b"/api/test%20",
    b"/api/test%09",
    b"/api/test%0a",
    b"/api/test%0d%0a",
    b"/API/test",
    b"/Api/Test",
    b"/api/%54est",
    b"/api/%2574est",
    b"/api/t%c3%a9st",
    b"/api/%c1%b4est",  # "t" in two bytes, where one is the only right form.
    b"/api/%e0%81%b4est",
    b"/api/%f0%80%81%b4est",
    b"/api/%ef%bd%94est",  # A fullwidth t.
    b"/api/%u0074est",
    b"/api/%",
    b"/api/%7",
    b"/api/%zz",
    b"/api/\xff",
    b"/api/test\x00",
    b"/./api/test",
    b"/%2fapi/test",
    b"/api%252ftest",
    b"*",
    b"",
    b"/" + b"a" * 60_000,
    b"/api/test" + b"/x" * 20_000,
]


@pytest.mark.parametrize("target", REACH, ids=repr)
def test_what_reaches_the_view_is_counted_by_every_kind_of_path(site, target):
    assert ask(site, target) == (200, ALL, b'{"ok": true}')


@pytest.mark.parametrize("target", DO_NOT, ids=lambda target: repr(target[:40]))
def test_no_other_spelling_reaches_it_uncounted(site, target):
    status, counted, body = ask(site, target)
    assert status < 500
    reached = b'{"ok": true}' in body
    # These do not reach it here; were it otherwise, each kind of limit would have to count them.
    assert not reached or counted == ALL
    assert not reached


@pytest.mark.parametrize("method", [b"get", b"GET ", b"G\x00ET", b"PROPFIND", b"A" * 10_000])
def test_a_method_of_any_name_is_counted_or_refused(site, method):
    with socket.create_connection(("127.0.0.1", site.port), 10) as connection:
        connection.sendall(
            method + b" /api/test HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    if b'{"ok": true}' in answer:
        assert b'"exact"' in answer
    assert not answer.startswith(b"HTTP/1.1 5")


HOSTILE = [
    b"X-Forwarded-For: " + b"203.0.113.9, " * 10_000,
    b"X-Forwarded-For: 203.0.113.9\x00",
    b"X-Forwarded-For: 203.0.113.9\r\n folded: 1",
    b"X-Forwarded-For: \xff\xfe\xfd",
    b"X-Api-Key: " + b"k" * 1_000_000,
    b"Accept: " + b"a/b;q=0.1," * 20_000,
    b"Cookie: sessionid=" + b"s" * 300_000,
    b'Cookie: sessionid="\\000\\000\\000\\000\\000\\000\\000\\000\\000"',
    b"Cookie: " + b"a=b; " * 20_000,
    b"Host: evil\x00.example",
    b"Host: a\r\nHost: b",
    b"Content-Length: -1",
    b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
    b"\x00: x",
    b"X" * 100_000 + b": y",
    b"\r\n".join(b"X-%d: y" % number for number in range(5_000)),
]


@pytest.mark.parametrize("field", HOSTILE, ids=lambda field: repr(field[:30]))
def test_a_hostile_header_is_answered_or_refused_and_the_site_lives_on(site, field):
    try:
        status, counted, _ = ask(site, b"/api/test", field)
    except ConnectionError:  # Refused before all of it was sent.
        status, counted = 0, set()
    assert status < 500
    assert (status == 200) == (counted == ALL)
    assert ask(site, b"/api/test")[:2] == (200, ALL)

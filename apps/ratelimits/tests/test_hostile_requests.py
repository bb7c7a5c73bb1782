"""What a client can put into a request: answered in bounded time, counted as whom it is."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.answering import denied_response
from apps.ratelimits.middleware import RateLimitMiddleware
from apps.ratelimits.policy.client_ip import UNKNOWN
from apps.ratelimits.policy.decision import decide_all
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.request_facts import request_facts

from .test_admin_lockout import configured
from .test_middleware import limit  # noqa: F401  (a fixture)

urlpatterns = [
    path("api/test", lambda request: HttpResponse("ok"), name="api-test"),
    path("api/<str:thing>/see", lambda request, thing: HttpResponse("ok"), name="thing"),
]

pytestmark = pytest.mark.urls(__name__)

PROXIED = {"trusted_proxies": (ip_network("10.0.0.0/8"),)}
PROXY = "10.0.0.1"
# Generous: noise of the machine is no failure, seconds are.
BOUNDED_S = 1.0
LONGEST_KEY = len("iota:l:{}:2147483647:2147483647") + DIGEST_CHARS


def whose_key(header: str, value: str) -> str | None:
    assert len(value) <= 512, "a value so long is not shown to the site"
    return {"right": "ada"}.get(value)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.9, " * 10_000 + "198.51.100.7", "198.51.100.7"),
        ("203.0.113.9, " * 10_000, PROXY),  # An empty last entry is no address.
        ("198.51.100.7," + "10.0.0.2," * 10_000 + "10.0.0.3", "10.0.0.2"),
        ("9" * 1_000_000, PROXY),
        ("," * 1_000_000, PROXY),
        ("203.0.113.9\x00", PROXY),
        ("203.0.113.9\r\nX-Real-Ip: 1.1.1.1", PROXY),
        ("203.0.113.9\r\n", "203.0.113.9"),
        ("\u0662\u0660\u0663.0.113.9", PROXY),
        ("203.0.113.9;proto=https", PROXY),
        ("for=203.0.113.9", PROXY),
        ("\ud800\udfff", PROXY),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::1%" + "z" * 60, "fe80::/64"),
        ("[2001:db8::1%25eth0]:443", "2001:db8::/64"),
        ("203.0.113.9:65535", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:cb00:7109", "203.0.113.9"),
        ("0xcb007109", PROXY),
        ("203.0.113.9/0", PROXY),
        ("../../etc/passwd", PROXY),
    ],
)
def test_a_forwarded_list_makes_nobody_but_a_client_of_the_proxy(forwarded, expected):
    request = RequestFactory().get("/", REMOTE_ADDR=PROXY)
    request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    with configured(**PROXIED):
        began = time.perf_counter()
        assert request_facts(request, settings.IOTA_RATELIMITS).address == expected
        assert time.perf_counter() - began < BOUNDED_S


def hostile_values() -> dict[str, str]:
    return {
        "HTTP_X_FORWARDED_FOR": "9" * 100_000,
        "HTTP_X_API_KEY": "k" * 1_000_000,
        "HTTP_ACCEPT": "a/b;q=0.1," * 100_000,
        "HTTP_COOKIE": "sessionid=" + "s" * 100_000,
        "HTTP_USER_AGENT": "\x00\ud800é" * 1_000,
        "HTTP_HOST": "testserver",
        "HTTP_ORIGIN": "null" * 10_000,
        "CONTENT_LENGTH": "-1",
        "CONTENT_TYPE": "x/" + "y" * 10_000,
    }


@pytest.mark.parametrize("counted_by", ["address", "user", "session", "header", "view_argument"])
def test_everything_at_once_is_counted_by_address(limit, redis_client, counted_by):  # noqa: F811
    names = {"header": "X-Api-Key"} if counted_by == "header" else {}
    names |= {"view_argument": "thing"} if counted_by == "view_argument" else {}
    with configured(**PROXIED, key_validator=f"{__name__}.whose_key"):
        limit(counted_by=counted_by, **names)
        client = Client(REMOTE_ADDR=PROXY)
        began = time.perf_counter()
        statuses = [client.get("/api/test", **hostile_values()).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert time.perf_counter() - began < 4 * BOUNDED_S
        # The same client without all that: its quota is used up.
        assert Client(REMOTE_ADDR=PROXY).get("/api/test").status_code == 429
    assert max(len(key) for key in redis_client.scan_iter("*:?:*")) <= LONGEST_KEY
    assert len(list(redis_client.scan_iter("*:b:*"))) == 1


def test_a_view_argument_of_any_length_is_a_digest(limit, redis_client, client):  # noqa: F811
    limit(counted_by="view_argument", view_argument="thing", quota=1)
    for thing in ("x" * 20_000, "%00", "%0d%0a", "%f0%9f%92%a9", "%ff%fe"):
        assert client.get(f"/api/{thing}/see").status_code == 200
        assert client.get(f"/api/{thing}/see").status_code == 429
    keys = list(redis_client.scan_iter("*:b:*"))
    assert len(keys) == 5
    assert {len(key) for key in keys} == {len("iota:b:{}") + DIGEST_CHARS}


@pytest.mark.parametrize(
    "cookie",
    [
        "sessionid=forged",
        "sessionid=",
        'sessionid="\\000\\000\\000\\000\\000\\000\\000\\000"',
        'sessionid="\\012\\015; DROP TABLE"',
        "sessionid=" + "a" * 32,
        "sessionid=éé; sessionid=two; ; ===;",
        "sessionid=" + "x" * 1_000_000,
    ],
)
def test_a_forged_session_is_nobody_new(limit, cookie):  # noqa: F811
    limit(counted_by="session,user", quota=2)
    statuses = [Client().get("/api/test", HTTP_COOKIE=cookie).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert Client().get("/api/test").status_code == 429


def test_a_session_with_a_nul_is_not_looked_up(limit, django_assert_num_queries):  # noqa: F811
    """PostgreSQL would answer with an error, and the site with a 500."""
    limit(counted_by="user")
    nul = 'sessionid="\\000aaaaaaaaa"'
    Client().get("/api/test")
    with django_assert_num_queries(0):
        assert Client().get("/api/test", HTTP_COOKIE=nul).status_code == 200


def test_a_real_session_is_still_found(limit, django_user_model):  # noqa: F811
    limit(counted_by="user", quota=1)
    client = Client()
    client.force_login(django_user_model.objects.create_user("ada"))
    assert Client().get("/api/test").status_code == 200
    assert [client.get("/api/test").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    "host", ["", "a b", "testserver\x00", "[::1", "x" * 100_000, "@", "é", ":"]
)
def test_a_host_that_is_none_is_counted_all_the_same(limit, client, host):  # noqa: F811
    """The site's CommonMiddleware answers 400 before; a site without it counts the request."""
    limit(quota=1)
    assert client.get("/api/test", HTTP_HOST=host).status_code == 400
    middleware = RateLimitMiddleware(lambda request: HttpResponse("ok"))
    request = RequestFactory().get("/api/test", HTTP_HOST=host)
    assert [middleware(request).status_code for _ in range(2)] == [200, 429]


def test_a_limit_of_one_host_is_not_escaped_by_spelling_it(limit, client):  # noqa: F811
    limit(quota=1, host="testserver")
    for host in ("testserver", "TESTSERVER", "testserver.", "testserver:8000", "TestServer.:80"):
        assert client.get("/api/test", HTTP_HOST=host).status_code == (
            200 if host == "testserver" else 429
        )


@pytest.mark.parametrize(
    "accept",
    [
        "",
        ",",
        ";" * 65_536,
        "," * 65_536,
        "a/b;q=0.1," * 6_553,
        "text/html" + ";a=b" * 16_000,
        'text/html;a="' + '\\"' * 32_000,
        "*/*;q=" + "9" * 60_000,
        "text/html;q=nan, */*;q=inf",
        "text/html\x00",
        "/",
        "\ud800/\ud800",
        "text",
    ],
)
def test_a_denial_stays_cheap_whatever_is_accepted(accept):
    from apps.ratelimits.policy.algorithms import Standing
    from apps.ratelimits.policy.decision import Verdict
    from apps.ratelimits.policy.rules import Algorithm, Rate, Rule

    rule = Rule(id=1, name="one", rate=Rate(Algorithm.FIXED_WINDOW, 1, 60_000_000, 1))
    denied = decide_all([Verdict(rule, False, Standing(0, 1_000_000, 1_000_000, 0))])
    denied_response(RequestFactory().get("/", headers={"accept": "text/html"}), denied)
    request = RequestFactory().get("/")
    request.META["HTTP_ACCEPT"] = accept
    began = time.process_time()
    response = denied_response(request, denied)
    assert time.process_time() - began < 0.05
    assert (response.status_code, response["Retry-After"]) == (429, "1")


META = st.fixed_dictionaries(
    {"REMOTE_ADDR": st.text(max_size=60)},
    optional={
        "HTTP_X_FORWARDED_FOR": st.text(max_size=200),
        "HTTP_HOST": st.text(max_size=60),
        "SERVER_NAME": st.text(max_size=20),
        "SERVER_PORT": st.text(max_size=6),
        "HTTP_ACCEPT": st.text(max_size=60),
        "HTTP_X_API_KEY": st.text(max_size=60),
    },
)


@given(META, st.text(max_size=10), st.text(max_size=200), st.booleans())
def test_no_request_raises_or_is_anybody_but_an_address(meta, method, path_info, proxied):
    request = HttpRequest()
    request.META = {"SERVER_NAME": "testserver", "SERVER_PORT": "80", **meta}
    if proxied:
        request.META["REMOTE_ADDR"] = PROXY
    request.method, request.path_info = method, path_info
    with configured(**PROXIED):
        facts = request_facts(request, settings.IOTA_RATELIMITS, with_route=True)
    assert facts.address == UNKNOWN or ip_network(facts.address)
    assert len(facts.address) <= len("ffff:ffff:ffff:ffff::/64")
    assert (facts.method, facts.path) == (method, path_info)
    assert facts.host == facts.host.lower()


def test_nobody_is_made_up_in_the_database(limit):  # noqa: F811
    limit(counted_by="user,session")
    for cookie in ("sessionid=forged", "sessionid=" + "b" * 32):
        Client().get("/api/test", HTTP_COOKIE=cookie)
    assert not User.objects.exists()

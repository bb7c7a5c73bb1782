"""Limits that views ask for by name, through Django's whole stack."""

from __future__ import annotations

import asyncio

import http_sf
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from apps.ratelimits import used_in_code
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.signals import request_denied
from apps.ratelimits.storage.usage import LimitUsage
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)
from apps.ratelimits.use import peek, rate_limit

SEEN: list[int] = []


@rate_limit("named")
def plain(request, pk=0):
    return HttpResponse("ok")


@rate_limit("named")
async def aplain(request):
    return HttpResponse("ok")


@rate_limit("named", "second")
def both(request):
    return HttpResponse("ok")


@rate_limit("named", cost=lambda request: int(request.GET["cost"]))
def weighed(request):
    return HttpResponse("ok")


@rate_limit("named", identity=lambda request: request.GET["who"])
def whose(request):
    return HttpResponse("ok")


@rate_limit("named", identity=lambda request: {"address": request.GET["who"]})
def whose_address(request):
    return HttpResponse("ok")


@rate_limit("named")
@rate_limit("named")
def twice(request):
    return HttpResponse("ok")


@rate_limit("named")
@rate_limit("named", identity=lambda request: "form")
def two_identities(request):
    return HttpResponse("ok")


@rate_limit("named")
class OnClass(View):
    def get(self, request):
        return HttpResponse("ok")


@rate_limit("named")
class OnAsyncClass(View):
    async def get(self, request):
        return HttpResponse("ok")


class OnMethod(View):
    @rate_limit("named")
    def get(self, request):
        return HttpResponse("ok")


@method_decorator(rate_limit("named"), name="dispatch")
class Decorated(View):
    def get(self, request):
        return HttpResponse("ok")


@method_decorator(rate_limit("named"), name="dispatch")
class AsyncDecorated(View):
    async def get(self, request):
        return HttpResponse("ok")


class AsyncMethodDecorated(View):
    @method_decorator(rate_limit("named"))
    async def get(self, request):
        return HttpResponse("ok")


@rate_limit("named")
def answering(request, status):
    if status == 404:
        raise Http404
    if status == 403:
        raise PermissionDenied
    return HttpResponse(status=status)


@rate_limit("named")
async def aanswering(request, status):
    if status == 404:
        raise Http404
    return HttpResponse(status=status)


@rate_limit("slots")
def streamed(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


@rate_limit("slots")
async def astreamed(request):
    async def parts():
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(parts())


def slots_now(request):
    """What a template sees while it is rendered."""
    from apps.ratelimits.engine import get_engine

    SEEN.append(sum(get_engine().limiter.client.zcard(key) for key in _slots()))
    return {}


def _slots():
    from apps.ratelimits.engine import get_engine

    return list(get_engine().limiter.client.scan_iter("*", _type="zset"))


@rate_limit("slots")
def templated(request):
    response = TemplateResponse(request, engines["django"].from_string("ok"))
    response.context_data = {}
    original = response.resolve_context
    response.resolve_context = lambda context: (slots_now(request), original(context))[1]
    return response


@rate_limit("slots")
def mistemplated(request):
    return TemplateResponse(request, engines["django"].from_string("{% include missing %}"))


@rate_limit("slots")
def broken(request):
    raise RuntimeError("the view's own mistake")


def outside(request):
    return HttpResponse("ok")


urlpatterns = [
    path("plain", plain, name="plain"),
    path("plain/<int:pk>", plain),
    path("aplain", aplain),
    path("both", both),
    path("weighed", weighed),
    path("whose", whose),
    path("whose-address", whose_address),
    path("twice", twice),
    path("two-identities", two_identities),
    path("on-class", OnClass.as_view()),
    path("on-async-class", OnAsyncClass.as_view()),
    path("on-method", OnMethod.as_view()),
    path("decorated", Decorated.as_view()),
    path("async-decorated", AsyncDecorated.as_view()),
    path("async-method-decorated", AsyncMethodDecorated.as_view()),
    path("answering/<int:status>", answering),
    path("aanswering/<int:status>", aanswering),
    path("streamed", streamed),
    path("astreamed", astreamed),
    path("templated", templated),
    path("mistemplated", mistemplated),
    path("broken", broken),
    path("outside", outside),
]

pytestmark = pytest.mark.urls(__name__)
SYNC = ("plain", "on-class", "on-method", "decorated")
ASYNC = ("aplain", "on-async-class", "async-decorated", "async-method-decorated")


@pytest.fixture
def limit(engine):
    def make(**changes) -> RateLimit:
        values = {"name": "named", "quota": 3, "path_kind": "named", **changes}
        made = RateLimit(**{"algorithm": "fixed_window", "window_unit": 3600, **values})
        made.full_clean()
        made.save()
        engine.refresh()
        return made

    return make


def statuses(client, url, count=5, **extra) -> list[int]:
    return [client.get(url, **extra).status_code for _ in range(count)]


def fields(response, name="RateLimit"):
    return dict(http_sf.parse(response[name].encode(), tltype="list"))


@pytest.mark.parametrize("url", SYNC + ASYNC)
def test_a_view_of_any_kind_is_denied_as_by_the_middleware(limit, client, url):
    limit(message="Ask us for more.")
    assert statuses(client, f"/{url}") == [200, 200, 200, 429, 429]
    denied = client.get(f"/{url}")
    assert denied["Content-Type"] == "application/problem+json"
    assert denied.json()["violated-policies"] == ["named"]
    assert denied["Cache-Control"] == "no-store"
    assert 0 < int(denied["Retry-After"]) <= 3600
    page = client.get(f"/{url}", headers={"accept": "text/html,*/*;q=0.8"})
    assert b"Ask us for more." in page.content


@pytest.mark.parametrize("url", ASYNC + SYNC)
async def test_a_view_of_any_kind_is_denied_under_asgi(limit, url):
    await asyncio.to_thread(limit)
    client = AsyncClient()
    got = [await client.get(f"/{url}") for _ in range(4)]
    assert [response.status_code for response in got] == [200, 200, 200, 429]
    assert fields(got[0])["named"]["r"] == 2
    assert int(got[3]["Retry-After"]) > 0


def test_it_counts_only_where_code_asks(limit, client):
    limit()
    assert statuses(client, "/outside") == [200] * 5
    assert "RateLimit" not in client.get("/outside")
    assert client.get("/plain")["RateLimit"].startswith('"named";r=2')


def test_a_limit_by_path_that_code_names_too_is_charged_once(limit, client):
    """By the middleware; elsewhere by the view."""
    limit(path_kind="exact", path="/plain")
    first = client.get("/plain")
    assert first["RateLimit"].count("named") == 1
    assert fields(first)["named"]["r"] == 2
    assert statuses(client, "/plain", 3) == [200, 200, 429]
    assert statuses(client, "/on-class", 1) == [429]


@pytest.mark.parametrize(("counted_by", "others_left"), [("address", 2), ("everyone", 1)])
def test_whom_code_names_as_the_path_counts_is_charged_once(limit, client, counted_by, others_left):
    limit(path_kind="exact", path="/whose-address", counted_by=counted_by)
    mine, other = {"address": "127.0.0.1"}, {"address": "198.51.100.9"}
    client.get("/whose-address?who=127.0.0.1")
    assert peek("named", mine).remaining == 2
    client.get("/whose-address?who=198.51.100.9")
    assert peek("named", mine).remaining == 1
    assert peek("named", other).remaining == others_left


@pytest.mark.parametrize(("url", "left"), [("/twice", 2), ("/two-identities", 2)])
def test_one_identity_is_charged_once_for_a_request_and_another_by_itself(limit, client, url, left):
    limit()
    assert fields(client.get(url))["named"]["r"] == left
    if url == "/two-identities":
        assert statuses(client, url, 3, REMOTE_ADDR="198.51.100.1") == [200, 200, 429]
    else:
        assert statuses(client, url, 3) == [200, 200, 429]


def test_the_fields_are_those_of_all_limits_the_tightest_first(limit, client):
    limit(quota=2)
    limit(name="everything", quota=10, path_kind="any")
    response = client.get("/plain")
    assert list(fields(response)) == ["named", "everything"]
    assert fields(response, "RateLimit-Policy") == {
        "named": {"q": 2, "w": 3600},
        "everything": {"q": 10, "w": 3600},
    }
    client.get("/plain")
    denied = client.get("/plain")
    assert denied.status_code == 429
    assert list(fields(denied)) == ["named", "everything"]
    assert fields(denied)["everything"]["r"] == 7
    assert int(denied["Retry-After"]) > 0


def test_all_names_are_charged_or_none(limit, client):
    limit(quota=10)
    limit(name="second", quota=2)
    assert statuses(client, "/both", 4) == [200, 200, 429, 429]
    assert fields(client.get("/plain"))["named"]["r"] == 7


def test_a_request_costs_what_the_function_says(limit, client):
    limit(quota=10)
    assert fields(client.get("/weighed?cost=7"))["named"]["r"] == 3
    assert client.get("/weighed?cost=4").status_code == 429
    assert fields(client.get("/weighed?cost=3"))["named"]["r"] == 0
    assert client.get("/weighed?cost=0").status_code == 200
    with pytest.raises(ValueError, match="whole number of units"):
        client.get("/weighed?cost=-1")


def test_a_cost_over_all_that_can_be_free_is_refused_clearly(limit, client, engine):
    made = limit(quota=10)
    denied = client.get("/weighed?cost=11")
    assert denied.status_code == 429
    assert "costs 11 units, and never more than 10" in denied.json()["detail"]
    assert denied.json()["violated-policies"] == ["named"]
    assert fields(client.get("/weighed?cost=10"))["named"]["r"] == 0
    engine.flush_usage()
    engine.flush_denied()
    assert engine.usage.read().limits == {made.pk: LimitUsage(1, 1)}
    assert [denial.denied for denial in engine.denied.recent()] == [(made.pk,)]


def test_what_is_taken_ahead_is_not_mixed_with_dear_requests(limit, client):
    limit(quota=20, lease=10)
    for _ in range(4):
        assert client.get("/plain").status_code == 200
    assert client.get("/weighed?cost=5").status_code == 200
    # A block that this process has taken is lost to the dear ones, and never used twice.
    cheap = statuses(client, "/plain", 20).count(200)
    assert cheap <= 20 - 4 - 5
    assert cheap >= 8


def test_code_says_who_is_counted(limit, client):
    limit(quota=1)
    assert statuses(client, "/whose?who=ada", 2) == [200, 429]
    assert statuses(client, "/whose?who=ada", 1, REMOTE_ADDR="198.51.100.1") == [429]
    assert statuses(client, "/whose?who=bob", 2) == [200, 429]
    assert statuses(client, "/plain", 2) == [200, 429]


def test_an_address_that_code_names_shares_its_count_with_requests(limit, client):
    limit(quota=2)
    assert statuses(client, "/whose-address?who=2001:db8::1", 1) == [200]
    assert statuses(client, "/plain", 2, REMOTE_ADDR="2001:db8::2") == [200, 429]


def test_whoever_code_names_everyone_together_is_one_count(limit, client):
    limit(quota=2, counted_by="everyone")
    assert statuses(client, "/whose?who=ada", 1) == [200]
    assert statuses(client, "/whose?who=bob", 2) == [200, 429]


def test_methods_host_networks_audience_and_time_still_say_whom_it_is_about(limit, client):
    made = limit(quota=1)
    for changes in (
        {"methods": "POST"},
        {"host": "elsewhere.example"},
        {"networks": "203.0.113.0/24"},
        {"audience": "signed_in"},
        {"active_until": "2020-01-01T00:00Z"},
    ):
        RateLimit.objects.filter(pk=made.pk).update(
            **{"methods": "", "host": "", "networks": "", "audience": "everyone", **changes}
        )
        from apps.ratelimits.engine import get_engine

        get_engine().refresh()
        assert statuses(client, "/plain", 3) == [200] * 3, changes


def test_shadow_counts_and_off_and_overrides_hold(limit, client, engine, redis_client):
    made = limit(quota=1, mode="shadow")
    assert statuses(client, "/plain", 3) == [200] * 3
    engine.flush_usage()
    counted = engine.usage.read().limits[made.pk]
    assert (counted.allowed, counted.would_deny) == (1, 2)
    RateLimit.objects.filter(pk=made.pk).update(mode="off")
    engine.refresh()
    assert statuses(client, "/plain", 3) == [200] * 3
    RateLimit.objects.filter(pk=made.pk).update(mode="enforce")
    Override.objects.create(network="198.51.100.0/24", action="unlimited")
    Override.objects.create(network="203.0.113.0/24", action="blocked")
    Override.objects.create(network="192.0.2.0/24", action="quota", quota=2)
    engine.refresh()
    assert statuses(client, "/plain", 3, REMOTE_ADDR="198.51.100.1") == [200] * 3
    assert statuses(client, "/plain", 1, REMOTE_ADDR="203.0.113.1") == [429]
    assert statuses(client, "/plain", 3, REMOTE_ADDR="192.0.2.1") == [200, 200, 429]
    assert statuses(client, "/weighed?cost=2", 2, REMOTE_ADDR="192.0.2.2") == [200, 429]


@pytest.mark.parametrize(("policy", "expected"), [("allow", 200), ("deny", 503), ("local", 429)])
def test_its_failure_policy_decides_while_redis_is_away(
    limit, client, engine, redis_server, policy, expected, settings
):
    limit(quota=1, on_failure=policy)
    redis_server.pause()
    try:
        assert statuses(client, "/plain", 2)[-1] == expected
    finally:
        redis_server.resume()


@pytest.mark.parametrize("prefix", ["answering", "aanswering"])
def test_a_limit_that_counts_by_response_gives_the_others_back(limit, client, prefix):
    limit(quota=1, counts="status", statuses="404")
    assert statuses(client, f"/{prefix}/200", 3) == [200] * 3
    assert client.get(f"/{prefix}/200")["RateLimit"].startswith('"named";r=1')
    # The exception is raised through the decorator, and becomes 404 further out.
    assert statuses(client, f"/{prefix}/404", 2) == [404, 429]


def test_an_exception_is_given_back_where_its_status_does_not_count(limit, client):
    limit(quota=1, counts="status", statuses="404")
    assert statuses(client, "/answering/403", 2) == [403, 403]
    assert statuses(client, "/answering/200", 1) == [200]


def test_a_slot_is_held_until_the_end_of_the_stream(limit, client):
    limit(name="slots", quota=1, algorithm="concurrency")
    streaming = client.get("/streamed")
    assert client.get("/streamed").status_code == 429
    assert b"".join(streaming.streaming_content) == b"ab"
    again = client.get("/streamed")
    assert again.status_code == 200
    again.close()  # A stream that nobody reads.
    assert client.get("/streamed").status_code == 200


async def test_a_slot_is_held_until_the_end_of_an_async_stream(limit):
    await asyncio.to_thread(limit, name="slots", quota=1, algorithm="concurrency")
    client = AsyncClient()
    streaming = await client.get("/astreamed")
    assert (await client.get("/astreamed")).status_code == 429
    assert [part async for part in streaming] == [b"a", b"b"]
    assert (await client.get("/astreamed")).status_code == 200


def test_a_slot_is_held_while_a_template_is_rendered_and_freed_by_a_mistake(limit, client):
    limit(name="slots", quota=1, algorithm="concurrency")
    SEEN.clear()
    for _ in range(2):
        assert client.get("/templated").content == b"ok"
    assert SEEN == [1, 1]
    client.raise_request_exception = False
    assert statuses(client, "/broken", 3) == [500] * 3
    assert statuses(client, "/mistemplated", 3) == [500] * 3


def test_it_works_without_the_middleware(limit, rf):
    limit(quota=1)
    allowed, denied = plain(rf.get("/")), plain(rf.get("/"))
    assert (allowed.status_code, denied.status_code) == (200, 429)
    assert allowed["RateLimit"].startswith('"named";r=0')
    assert OnClass.as_view()(rf.get("/")).status_code == 429


def test_preflights_pass(limit, client):
    limit(quota=1)
    asked = {"origin": "https://example.com", "access-control-request-method": "GET"}
    got = [client.options("/plain", headers=asked).status_code for _ in range(3)]
    assert got == [200] * 3


def test_a_switched_off_limiter_lets_all_pass(limit, client, no_rate_limits):  # noqa: F811
    limit(quota=1)
    assert statuses(client, "/plain", 3) == [200] * 3


def test_whoever_listens_hears_of_denials(limit, client):
    heard = []

    def hear(sender, request, decision, **kwargs):
        heard.append((request.path, [rule.name for rule in decision.violated]))
        raise RuntimeError("a receiver's mistake")

    request_denied.connect(hear)
    try:
        limit(quota=1)
        assert statuses(client, "/plain", 2) == [200, 429]
    finally:
        request_denied.disconnect(hear)
    assert heard == [("/plain", ["named"])]


def test_users_are_counted_as_by_the_middleware(limit, client):
    limit(quota=1, counted_by="user")
    client.force_login(User.objects.create_user("ada"))
    assert statuses(client, "/plain", 1) == [200]
    assert statuses(client, "/on-class", 1, REMOTE_ADDR="198.51.100.9") == [429]


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: rate_limit(), TypeError, "name the limits"),
        (lambda: rate_limit(plain), TypeError, "name the limits"),
        (lambda: rate_limit("No Name"), ValueError, "no name of a limit"),
        (lambda: rate_limit("named")(str), TypeError, "for views"),
        (lambda: plain("no request"), TypeError, "without a request"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_wrong(wrong, error, said):
    with pytest.raises(error, match=said):
        wrong()


def test_where_each_name_is_used_is_known():
    used = {use.where: use.routes for use in used_in_code.uses()["named"]}
    here = __name__
    assert used[f"{here}.plain"] == ("plain", "plain/<int:pk>")
    assert used[f"{here}.OnClass"] == ("on-class",)
    assert used[f"{here}.OnMethod.get"] == ("on-method",)
    assert used[f"{here}.Decorated.dispatch"] == ("decorated",)
    assert used[f"{here}.AsyncMethodDecorated.get"] == ("async-method-decorated",)
    assert not any("dummy" in where for where in used)

"""An HTTP question for services that are not Django: may this request go on?

=================================  ===========================================================
address                            who asks, and of what
=================================  ===========================================================
``/api/check?limit=exports``       a service by itself: ``check("exports", identity, cost=…)``
``/api/check/nginx``               nginx' ``auth_request``: X-Original-Method, -URI and -Host
``/api/check/traefik``             Traefik's ForwardAuth: X-Forwarded-Method, -Uri and -Host
``/api/check/envoy/the/path``      Envoy's ``ext_authz`` over HTTP: the request's own
=================================  ===========================================================

A proxy's requests are decided by the limits that cover their path, and by those that ``limit``
names. Which fields are read is told by the address, and never by what is there: a proxy passes on
what its clients send, and sets only its own. docs/guides/other-services.md has configurations.
"""

from __future__ import annotations

import hmac
import logging
import time
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_network

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from . import conf
from .answering import denied_response, marked_denied, with_fields
from .engine import Engine, get_engine
from .errors import UnknownLimit
from .named import ask, by_name, callers
from .policy import headers
from .policy.client_ip import UNKNOWN, Network, client_address, in_networks, parse_span
from .policy.decision import ALLOWED, Decision
from .policy.facts import RequestFacts
from .policy.matching import CompiledRule, conditions_by_name
from .policy.original import MAX_URI_CHARS, decoded_path, normal_path
from .policy.rules import Algorithm, Counts
from .validators import validate_name

logger = logging.getLogger(__name__)

WHOLE_ADDRESS = 128
MAX_METHOD_CHARS = 20
MAX_HOST_CHARS = 253
MAX_NAMES = 10
MAX_IDENTITY_CHARS = 500
STATUS_FIELD = "X-IOTA-Status"
"""What nginx is to answer: of ``auth_request`` it takes only 401 and 403."""
NOT_TRUSTED = (
    "This address may not ask: name it in IOTA_CHECK_NETWORKS, or send IOTA_CHECK_TOKEN as a "
    "bearer's token. A proxy of IOTA_TRUSTED_PROXIES always needs the token "
    "(docs/guides/other-services.md)."
)


class _Wrong(Exception):
    """A question that cannot be answered; the text says what to send instead."""


class _TooLong(_Wrong):
    """Whoever makes the request must not get past its limits so."""


@csrf_exempt
def check(request: HttpRequest, proxy: str = "", rest: str = "") -> HttpResponse:
    """200 where the request may go on; 429 or 503 where not, and 403 for nginx."""
    config = conf.current()
    if not _is_trusted(request, config):
        return _refused(proxy, NOT_TRUSTED)
    if config.disabled:
        return HttpResponse()
    engine = get_engine()
    engine.start()
    try:
        decision = _of_proxy(engine, request, proxy, rest) if proxy else _of_service(request)
    except (_Wrong, UnknownLimit) as error:
        return _refused(proxy, str(error), status=414 if isinstance(error, _TooLong) else 400)
    if decision.allowed:
        response = HttpResponse(headers={"Cache-Control": "no-store"})
        return with_fields(response, decision)  # type: ignore[return-value]
    if proxy != "nginx":
        return denied_response(request, decision)
    response = HttpResponse(status=403)
    response[STATUS_FIELD] = str(503 if decision.unavailable else 429)
    response["Retry-After"] = str(headers.retry_after_s(decision))
    return with_fields(marked_denied(response), decision)  # type: ignore[return-value]


def _of_service(request: HttpRequest) -> Decision:
    """Raises _Wrong, UnknownLimit."""
    identity, cost = request.GET.get("identity"), request.GET.get("cost")
    if identity is not None and len(identity) > MAX_IDENTITY_CHARS:
        raise _Wrong(f"an identity of over {MAX_IDENTITY_CHARS} characters: send a digest of it")
    if cost is not None and not (cost.isascii() and cost.isdigit() and len(cost) <= 12):
        raise _Wrong("cost is no whole number of units: use cost=3, or leave it out")
    names = _names(request)
    if not names:
        raise _Wrong("no limit is named: add ?limit=NAME, and identity=TEXT for whom to count")
    return ask(names, identity=identity, cost=None if cost is None else int(cost))


def _of_proxy(engine: Engine, request: HttpRequest, proxy: str, rest: str) -> Decision:
    """Raises _Wrong, UnknownLimit."""
    began_ns = time.perf_counter_ns()
    facts, as_it_came = _original(request, engine.config, proxy, rest)
    # Envoy's question has the query of the original request: what it names is its client's.
    names = () if proxy == "envoy" else _names(request)
    if refused := engine.without_limits():
        return refused
    named = by_name(engine, names)
    if isinstance(named, Decision):
        return named
    now_us = time.time_ns() // 1000
    rules = engine.candidates(facts)
    if as_it_came != facts.path:
        # Some services collapse dots and slashes, others do not: limits on either path hold.
        others = engine.candidates(replace(facts, path=as_it_came))
        rules += [compiled for compiled in others if compiled not in rules]
    for compiled in named:
        if compiled not in rules:
            conditions = conditions_by_name(compiled.rule)
            if all(holds(facts, now_us) for holds in conditions):
                rules.append(compiled)
    rules = [compiled for compiled in rules if _can_be_told(compiled)]
    user = callers(engine.config.key_validator).identify(request, rules)
    plan = engine.plan(rules, facts, user)
    decision = engine.check(plan)
    if decision is not ALLOWED:
        engine.tally.checked(plan.limits, decision, time.perf_counter_ns() - began_ns)
        if not decision.allowed:
            engine.note_denied(plan, decision, facts, user)
    return decision


def _can_be_told(compiled: CompiledRule) -> bool:
    """How the request is answered, and when, its proxy does not say."""
    rule = compiled.rule
    return rule.counts is Counts.EVERY and rule.rate.algorithm is not Algorithm.CONCURRENCY


def _original(
    request: HttpRequest, config: conf.RateLimitConfig, proxy: str, rest: str
) -> tuple[RequestFacts, str]:
    """The request that the proxy asks about, and its path as it came. Raises _Wrong where it does
    not say."""
    meta = request.META
    if proxy == "envoy":
        method, host = request.method or "", meta.get("HTTP_HOST", "")
        as_it_came = rest
    else:
        before = "HTTP_X_ORIGINAL" if proxy == "nginx" else "HTTP_X_FORWARDED"
        method, host = meta.get(f"{before}_METHOD", ""), meta.get(f"{before}_HOST", "")
        uri = meta.get(f"{before}_URI", "")
        if not method or not uri:
            field = before.removeprefix("HTTP_").replace("_", "-").title()
            raise _Wrong(f"the proxy does not say what it asks about: {field}-Method, {field}-Uri")
        if len(uri) > MAX_URI_CHARS:
            raise _TooLong(f"an address of over {MAX_URI_CHARS:,} characters")
        as_it_came = decoded_path(uri)
    forwarded = meta.get("HTTP_X_FORWARDED_FOR", "")
    if not forwarded:
        raise _Wrong("the proxy does not say who its client is: X-Forwarded-For")
    peer = meta.get("REMOTE_ADDR", "")
    # Who may ask is not whom one asks for: of the networks only this peer is passed by.
    trusted = (*config.trusted_proxies, *_networks_of(peer))
    facts = RequestFacts(
        method=method[:MAX_METHOD_CHARS].upper(),
        path=normal_path(as_it_came),
        address=client_address(peer, forwarded, trusted, config.ipv6_prefix),
        host=_host(host[:MAX_HOST_CHARS]),
    )
    return facts, as_it_came


def _host(text: str) -> str:
    host = text.rpartition("@")[2].lower()
    return host if host.startswith("[") else host.partition(":")[0]


@lru_cache(maxsize=64)
def _networks_of(peer: str) -> tuple[Network, ...]:
    """Of who asks: it was believed before it is asked whom it forwards for."""
    address = client_address(peer, "", (), WHOLE_ADDRESS)
    return () if address == UNKNOWN else (ip_network(address),)


def _names(request: HttpRequest) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(request.GET.getlist("limit")))
    if len(names) > MAX_NAMES:
        raise _Wrong(f"{len(names)} limits: name {MAX_NAMES} at most")
    for name in names:
        try:
            validate_name(name)
        except ValidationError as error:
            raise _Wrong(f"{name[:64]!r} is no name of a limit") from error
    return names


def _is_trusted(request: HttpRequest, config: conf.RateLimitConfig) -> bool:
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if config.check_token and scheme.lower() == "bearer":
        # In constant time. Django reads fields as Latin-1, which any bytes are.
        token = given.strip().encode("latin-1", "replace")
        if hmac.compare_digest(token, config.check_token.encode()):
            return True
    address = client_address(request.META.get("REMOTE_ADDR", ""), "", (), WHOLE_ADDRESS)
    if address == UNKNOWN or _covers(config.trusted_proxies, address):
        return False
    return _covers(config.check_networks, address)


def _covers(networks: tuple[Network, ...], address: str) -> bool:
    return in_networks(address, [parse_span(str(network)) for network in networks])


_said: set[str] = set()


def _refused(proxy: str, why: str, status: int = 403) -> HttpResponse:
    """nginx takes 403 for a verdict, and any other status for a failure: its shipped files deny
    what is too long to be told, and let the rest pass, which is the operator's mistake."""
    if why not in _said and len(_said) < 100:
        _said.add(why)
        logger.warning("A question at the check endpoint was not answered: %s", why)
    status = 400 if proxy == "nginx" and status == 403 else status
    return HttpResponse(f"{why}\n", status=status, content_type="text/plain; charset=utf-8")

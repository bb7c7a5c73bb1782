"""Who may read ``/metrics``: nobody, until somebody is named.

A bearer of IOTA_METRICS_TOKEN, who comes from IOTA_METRICS_NETWORKS, or staff who may see the
watch: one of these is enough.
"""

from __future__ import annotations

import hmac
from ipaddress import IPv4Network, IPv6Network

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest

from apps.ratelimits import conf
from apps.ratelimits.policy.client_ip import Network, client_address, in_networks, parse_span

PERMISSION = "monitoring.view_source"
WHOLE_ADDRESS = 128
"""IPv6 addresses are told apart here, as they are not where clients are counted."""


def may_read(request: HttpRequest) -> bool:
    return (
        _bears(request, settings.IOTA_METRICS_TOKEN)
        or _comes_from(request, settings.IOTA_METRICS_NETWORKS)
        or _is_staff(request)
    )


def _bears(request: HttpRequest, token: str) -> bool:
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if not token or scheme.lower() != "bearer":
        return False
    # In constant time. Django reads fields as Latin-1, which any bytes are.
    return hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())


def _comes_from(request: HttpRequest, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """By the address that the limiter would count. A request that somebody forwarded who is not
    named in IOTA_TRUSTED_PROXIES comes from nowhere: its peer is no more than the last hop."""
    if not networks:
        return False
    peer, forwarded = request.META.get("REMOTE_ADDR", ""), _forwarded(request)
    proxies = conf.current().trusted_proxies
    if forwarded and not _covers(proxies, client_address(peer, "", (), WHOLE_ADDRESS)):
        return False
    address = client_address(peer, forwarded, proxies, WHOLE_ADDRESS)
    return _covers(networks, address)


def _forwarded(request: HttpRequest) -> str:
    return str(request.META.get("HTTP_X_FORWARDED_FOR", ""))


def _covers(networks: tuple[Network, ...], address: str) -> bool:
    return in_networks(address, [parse_span(str(network)) for network in networks])


def _is_staff(request: HttpRequest) -> bool:
    """Asked for last: only who has a session is looked up."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    user = getattr(request, "user", None)
    return isinstance(user, AbstractUser) and user.is_staff and user.has_perm(PERMISSION)

"""What settings must not say together, although each of them is right by itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from ipaddress import ip_address
from typing import TYPE_CHECKING

from .store.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from .document import Place
    from .mistakes import Mistakes
    from .settings import Settings

    Broken: TypeAlias = tuple[tuple[Place, ...], str]
    """The places that a rule is about, first the one to change, and what is wrong with it."""

_BASE_URL: Place = ("upstream", "base_url")
_API_KEY: Place = ("upstream", "api_key")
_HOST: Place = ("server", "host")
_PORT: Place = ("server", "port")
_ADMIN_PORT: Place = ("server", "admin_port")
_KEYS: Place = ("keys",)
_STORE_KEYS: Place = ("store", "keys")

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def check(settings: Settings, mistakes: Mistakes) -> None:
    """Note what is wrong, except about values that are wrong already."""
    for rule in _RULES:
        for places, message in rule(settings):
            if not mistakes.concern(*places):
                mistakes.add(places[0], message)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _money_is_guarded(settings: Settings) -> Iterator[Broken]:
    server = settings.server
    open_to_others = not is_loopback(server.host) and not server.allow_anonymous
    if open_to_others and settings.upstream.api_key and not settings.has_keys:
        places = (_HOST, _API_KEY, _KEYS, _STORE_KEYS, ("server", "allow_anonymous"))
        advice = "add [[keys]] (dragoman keys new), or set server.allow_anonymous = true"
        yield places, f"whoever reaches {server.host} could spend upstream.api_key; {advice}"


def _our_keys_stay_here(settings: Settings) -> Iterator[Broken]:
    advice = 'set it, to "none" if the upstream wants no key'
    if settings.upstream.api_key is not None:
        return
    if settings.keys:
        yield (_KEYS, _API_KEY), f"without upstream.api_key they would go to the upstream; {advice}"
    elif settings.store.keys:
        text = f"without it, clients' keys of the store would go to the upstream; {advice}"
        yield (_API_KEY, _STORE_KEYS), text


def _keys_differ(settings: Settings) -> Iterator[Broken]:
    for attribute in ("name", "sha256"):
        seen = set()
        for index, key in enumerate(settings.keys):
            value = getattr(key, attribute)
            if value in seen:
                yield (("keys", index, attribute),), f"another key has the same {attribute}"
            seen.add(value)


def _keys_are_shared(settings: Settings) -> Iterator[Broken]:
    url = ("store", "url")
    if settings.store.keys and settings.store.url.get_secret_value() == "memory://":
        yield (_STORE_KEYS, url), "needs a store that is shared: a Redis as store.url"


def _listeners_differ(settings: Settings) -> Iterator[Broken]:
    server = settings.server
    hosts = (server.host, server.admin_host)
    overlap = hosts[0] == hosts[1] or any(host in _EVERYWHERE for host in hosts)
    if overlap and server.port == server.admin_port != 0:
        places = (_PORT, _ADMIN_PORT)
        names = ("server.port", "server.admin_port")
        if "admin_port" in server.model_fields_set:
            places, names = places[::-1], names[::-1]
        yield (*places, _HOST), f"{server.port} is {names[1]}, too; choose another"


def _upstream_is_somebody_else(settings: Settings) -> Iterator[Broken]:
    url, server = settings.upstream.base_url, settings.server
    host = (url.host or "").strip("[]")
    here = host == server.host or (
        is_loopback(host) and (is_loopback(server.host) or server.host in _EVERYWHERE)
    )
    if here and url.port == server.port:
        yield (_BASE_URL, _HOST, _PORT), "is the address of this proxy itself"


def _one_body_fits(settings: Settings) -> Iterator[Broken]:
    if settings.server.max_body > settings.server.max_body_in_flight:
        places = (("server", "max_body"), ("server", "max_body_in_flight"))
        yield places, "is more than server.max_body_in_flight allows for all bodies together"


def _workers_share_a_store(settings: Settings) -> Iterator[Broken]:
    workers, url = settings.server.workers, settings.store.url.get_secret_value()
    if workers > 1 and Address.parse(url).kind == "memory":
        advice = "set store.url to a Redis or Valkey, or workers = 1"
        reason = "memory:// is each process's own, so limits and budgets would count many times"
        yield (("server", "workers"), ("store", "url")), f"{reason}; {advice}"


def _grpc_is_installed(settings: Settings) -> Iterator[Broken]:
    if settings.telemetry.protocol == "grpc":
        try:
            distribution("opentelemetry-exporter-otlp-proto-grpc")
        except PackageNotFoundError:
            yield (("telemetry", "protocol"),), "pip install 'dragoman[grpc]' brings gRPC"


_RULES: tuple[Callable[[Settings], Iterator[Broken]], ...] = (
    _money_is_guarded,
    _our_keys_stay_here,
    _keys_differ,
    _keys_are_shared,
    _listeners_differ,
    _upstream_is_somebody_else,
    _one_body_fits,
    _workers_share_a_store,
    _grpc_is_installed,
)

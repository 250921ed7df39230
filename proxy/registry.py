"""The `[[plugins]]` tables: checks them, finds their classes, makes the layers of the onion."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from . import discovery
from .admission import Forwarded
from .discovery import NotAPlugin
from .fields import keys
from .layer import Layer
from .plugin import Plugin
from .quantities import Seconds
from .settings import Section
from .stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .config import Draft
    from .document import Place
    from .services import Services
    from .stamps import Stamp
    from .wire import ChatRequest

M = TypeVar("M", bound=BaseModel)
Globs = Annotated[tuple[str, ...], Field(min_length=1)]


class Match(Section):
    """Which requests a plugin sees: those that fit one pattern of each kind."""

    models: Globs | None = None
    """Patterns of the requested model, such as "gpt-4o*".  Of requests to other paths than chat
    completions, those fit that name such a model, and those that send messages to one they do not
    name where the proxy looks."""

    callers: Globs | None = None
    """Patterns of the caller: its key's name, "group:" and its key's group, or else its id."""

    paths: Globs | None = None
    """Patterns of the request's path."""


class Table(Section):
    """The keys that every `[[plugins]]` table takes; all others are the plugin's own."""

    use: Annotated[str, Field(min_length=1)]
    """The name of an installed plugin, or "./file.py:Class", seen from this file's folder."""

    name: str = ""
    """What the plugin is called in logs, traces and metrics; by default as in `use`."""

    enabled: bool = True
    """False: the table is checked, and does nothing."""

    timeout: Seconds = Plugin.timeout
    """How much time of its own the plugin may take for a request; 0 sets no limit."""

    on_error: Literal["open", "closed"] = Plugin.on_error
    """When the plugin fails: go on without it ("open"), or answer 503 ("closed")."""

    mode: Literal["apply", "shadow"] = "apply"
    """"shadow" runs it on each request, notes what it would have done, and does nothing."""

    match: Match = Match()
    """Which requests it sees; by default all."""


COMMON = tuple(key for key, _ in keys(Table))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plugin that is to run, with its options and what its table says besides."""

    plugin: type[Plugin[Any]]
    options: BaseModel
    table: Table
    place: Place
    files: tuple[tuple[Path, Stamp], ...] = ()
    """What it is made of besides the configuration, as it was before that was read."""

    @property
    def name(self) -> str:
        return self.table.name or self.table.use

    @property
    def shadow(self) -> bool:
        return self.table.mode == "shadow"

    def same_as(self, other: Chosen) -> bool:
        """Would it be made in the same way, wherever its table stands?"""
        return replace(self, place=other.place) == other

    def summary(self) -> str:
        return self.plugin.summary(self.options)

    def layer(self, services: Services) -> Layer:
        return Layer(
            self.plugin(self.options, services),
            self.name,
            timeout=self.table.timeout or None,
            on_error=self.table.on_error,
            shadow=self.shadow,
            matches=predicate(self.table.match),
        )


def choose(draft: Draft) -> tuple[Chosen, ...]:
    """The plugins that are to run, outermost first.  What is wrong goes to the draft's mistakes."""
    chosen = []
    names: set[str] = set()
    for index, table in enumerate(draft.tables):
        each = _choose(draft, ("plugins", index), table) if isinstance(table, dict) else None
        if each is None:
            continue
        if each.name in names:
            advice = "give one of them a name of its own: name = ..."
            draft.mistakes.add_text(each.place, f"another plugin is named {each.name!r}; {advice}")
        names.add(each.name)
        if each.table.enabled:
            chosen.append(each)
    return tuple(chosen)


def build_layers(
    chosen: Sequence[Chosen],
    services_for: Callable[[str], Services],
    kept: Mapping[str, Layer] = MappingProxyType({}),
) -> tuple[Layer, ...]:
    """Make the plugins, each with the services that its name gets, but for those that are kept."""
    return tuple(kept.get(each.name) or each.layer(services_for(each.name)) for each in chosen)


def predicate(match: Match) -> Callable[[ChatRequest | Forwarded], bool] | None:
    """Whether a request is one that a plugin sees; None if it sees all of them."""
    wanted = [
        (read, re.compile("|".join(map(translate, globs))).match)
        for read, globs in (
            (_models, match.models),
            (_paths, match.paths),
        )
        if globs is not None
    ]
    callers = match.callers or ()
    if not wanted and not callers:
        return None
    return lambda request: (
        request.caller.fits(callers)
        and all((found := read(request)) is None or any(map(fits, found)) for read, fits in wanted)
    )


def doubtful_order(chosen: Sequence[Chosen]) -> Iterator[tuple[Place, str]]:
    """Orders that work, but are seldom meant: the place of a table, and what it leads to."""
    order = [each.table.use for each in chosen]
    place = {each.table.use: each.place for each in chosen}

    def inside(inner: str, outer: str) -> bool:
        return outer in order and inner in order[order.index(outer) :]

    guards = [name for name in ("rate_limit", "moderation") if name in order]
    if guards and all(inside(guard, "faq_cache") for guard in guards):
        names = " and ".join(guards)
        yield place["faq_cache"], f"faq_cache is outside {names}: what it answers passes them by"
    if inside("moderation", "compression"):
        yield place["moderation"], "moderation is inside compression: it judges what was shortened"
    if inside("sessions", "compression"):
        yield place["sessions"], "sessions is inside compression: it sees what was shortened"


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that a configuration may name."""

    name: str
    distribution: str
    version: str
    description: str
    positions: tuple[int, ...]
    """Where it stands in the configuration at hand, 1 for the outermost."""


def installed(chosen: Sequence[Chosen] = ()) -> list[Installed]:
    """All plugins that are installed.  This imports them."""
    return [
        Installed(
            point.name,
            *discovery.distribution(point),
            _description(point.name),
            tuple(at for at, each in enumerate(chosen, 1) if each.table.use == point.name),
        )
        for point in discovery.installed()
    ]


def _description(use: str) -> str:
    try:
        plugin = discovery.find(use, Path())
    except NotAPlugin as error:
        return str(error)
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def _models(request: ChatRequest | Forwarded) -> tuple[str, ...] | None:
    """None: it fits whatever is asked for."""
    if isinstance(request, Forwarded) and request.may_be_any_model:
        return None
    return (request.model or "",)


def _paths(request: ChatRequest | Forwarded) -> tuple[str, ...]:
    """As it is spelled, and as a lenient server reads it."""
    spelled = request.exchange.path
    return (spelled, request.path) if isinstance(request, Forwarded) else (spelled,)


def _choose(draft: Draft, place: Place, given: dict[str, Any]) -> Chosen | None:
    """One table: its class, its common keys, its options.  None if anything is wrong with it."""
    use = given.get("use")
    source = discovery.file_of(use, draft.folder) if isinstance(use, str) else None
    files = [] if source is None else [(source, stamp(source))]
    plugin = _plugin(draft, place, use)
    defaults = {} if plugin is None else {"timeout": plugin.timeout, "on_error": plugin.on_error}
    common = {key: value for key, value in given.items() if key in COMMON}
    own = {key: value for key, value in given.items() if key not in COMMON}
    table = _validated(draft, place, Table, {**defaults, **common})
    options = None if plugin is None else _validated(draft, place, plugin.Config, own, also=COMMON)
    if plugin is None or table is None or options is None:
        return None
    files += [(path, stamp(path)) for path in plugin.files(options)]
    return Chosen(plugin, options, table, place, tuple(files))


def _plugin(draft: Draft, place: Place, use: Any) -> type[Plugin[Any]] | None:
    if not isinstance(use, str) or not use:
        return None  # Table says so
    try:
        plugin = draft.at_hand.get(use) or discovery.find(use, draft.folder)
    except NotAPlugin as error:
        draft.mistakes.add_text((*place, "use"), str(error))
        return None
    if taken := sorted(set(COMMON) & {key for key, _ in keys(plugin.Config)}):
        message = f"the Config of {use!r} has {taken[0]!r}, a key of every [[plugins]] table"
        draft.mistakes.add_text((*place, "use"), message)
        return None
    return plugin


def _validated(
    draft: Draft, place: Place, model: type[M], values: dict[str, Any], also: Sequence[str] = ()
) -> M | None:
    """The table as the model; unknown keys are refused where the model does not care."""
    extra: Literal["forbid"] | None = None if "extra" in model.model_config else "forbid"
    try:
        return model.model_validate(values, extra=extra)
    except ValidationError as error:
        draft.mistakes.add_invalid(error, model, values, within=place, also=also)
        return None

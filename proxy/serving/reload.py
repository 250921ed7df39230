"""The configuration, read again while requests go on: what of it applies, and when to look."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy import rules
from proxy.errors import ConfigError
from proxy.fields import keys
from proxy.mistakes import Mistakes
from proxy.settings import Section, Settings, Store, Telemetry, Tokens
from proxy.stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from proxy.config import Configuration
    from proxy.stamps import Stamp

    from .server import Server

    Reread: TypeAlias = Callable[[], Configuration]
    """Reads the configuration as it was read at start; ConfigError with all mistakes."""

log = logging.getLogger("dragoman")

LOOK_SECONDS = 1.0
"""Between two looks at the files, with `server.watch_config`."""

FOR_A_START = frozenset(
    (
        *("server.host", "server.port", "server.admin_host", "server.admin_port"),
        *("server.workers", "server.max_header", "server.idle_timeout"),
        *("upstream.base_url", "upstream.provider"),
        *(f"telemetry.{key}" for key, _ in keys(Telemetry)),
        *(f"tokens.{key}" for key, _ in keys(Tokens)),
        *(f"store.{key}" for key, _ in keys(Store)),
    )
)
"""Settings by which things are made that every plugin and every request have in common."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a configuration that was read again comes to, beside the one in use."""

    configuration: Configuration
    """What is to be used from now on."""
    applied: tuple[str, ...]
    """The settings that change, such as `server.drain`, and what becomes of plugins."""
    waiting: tuple[str, ...]
    """The settings that stay as they were until a restart."""

    @classmethod
    def of(cls, before: Configuration, read: Configuration) -> Change:
        """ConfigError if what would change does not go with what has to stay."""
        different = set(_different(before.settings, read.settings))
        waiting = sorted(different & FOR_A_START)
        settings = read.settings
        for name in waiting:
            section, key = name.split(".")
            kept = getattr(getattr(before.settings, section), key)
            inner = getattr(settings, section).model_copy(update={key: kept})
            settings = settings.model_copy(update={section: inner})
        mistakes = Mistakes()
        rules.check(settings, mistakes)
        if mistakes.found:
            names = ", ".join(waiting)
            reasons = [mistake.text for mistake in mistakes.found]
            raise ConfigError([f"as long as {names} is as before: {reason}" for reason in reasons])
        applied = (*sorted(different - FOR_A_START), *_plugins(before, read))
        return cls(replace(read, settings=settings), applied, tuple(waiting))

    def tell(self) -> None:
        """Log it."""
        what = ", ".join(self.applied) or "nothing has changed"
        log.info("the configuration was read again: %s", what)
        for warning in self.configuration.warnings:
            log.warning("%s", warning)
        if self.waiting:
            log.warning("a restart is needed for %s", ", ".join(self.waiting))


def tell_refusal(error: ConfigError) -> None:
    """Log why the configuration stays as it was."""
    log.error("the configuration stays as it was: %s", "; ".join(error.problems))


def _different(one: Settings, other: Settings) -> Iterator[str]:
    for name, _ in keys(Settings):
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, Section):
            for key, _ in keys(type(before)):
                if getattr(before, key) != getattr(after, key):
                    yield f"{name}.{key}"
        elif before != after and name != "plugins":  # of which more is said
            yield name


def _plugins(before: Configuration, after: Configuration) -> Iterator[str]:
    old = {each.name: each for each in before.plugins}
    new = {each.name: each for each in after.plugins}
    for name, chosen in new.items():
        if name not in old:
            yield f"plugin {name} is new"
        elif not chosen.same_as(old[name]):
            yield f"plugin {name} has changed"
    yield from (f"plugin {name} is gone" for name in old if name not in new)
    both = [name for name in old if name in new]
    if both != [name for name in new if name in old]:
        yield "the order of plugins"


class Watch:
    """Looks at the files of a configuration, and tells when they are not as they were read."""

    def __init__(self, configuration: Configuration) -> None:
        self._known: dict[Path, Stamp] = {}
        self.follow(configuration)
        self._last = self._known

    def follow(self, configuration: Configuration) -> None:
        """Look at these files from now on."""
        files = {path: seen for each in configuration.plugins for path, seen in each.files}
        if (path := configuration.path) is not None:
            files[path] = stamp(path)
        self._known = {path: self._known.get(path, seen) for path, seen in files.items()}

    def note(self) -> None:
        """The files are about to be read."""
        self._known = self._last = self._look()

    def changed(self) -> bool:
        """Has a file changed, and not since the last look, when somebody may be writing it?"""
        now = self._look()
        at_rest, self._last = now == self._last, now
        return at_rest and now != self._known

    def _look(self) -> dict[Path, Stamp]:
        return {path: stamp(path) for path in self._known}


class Reloading:
    """Reads the configuration again when asked, one reading after the other."""

    def __init__(self, server: Server, reread: Reread, *, tells: bool = True) -> None:
        """`tells`: log what there is to say of the files; else somebody else does."""
        self._server = server
        self._reread = reread
        self._tells = tells
        self._asked = asyncio.Event()
        self._count = server.metrics.reloads

    def ask(self) -> None:
        """Read it as soon as the reading under way, if any, has ended."""
        self._asked.set()

    async def run(self) -> None:
        """Do what is asked for, for ever."""
        watch = await asyncio.to_thread(Watch, self._server.configuration)
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                watched = self._server.configuration.settings.server.watch_config
                if not (self._tells and watched and await asyncio.to_thread(watch.changed)):
                    continue
            self._asked.clear()
            await asyncio.to_thread(watch.note)
            await self._reload()
            await asyncio.to_thread(watch.follow, self._server.configuration)

    async def _reload(self) -> None:
        try:
            read = await asyncio.to_thread(self._reread)
            change = Change.of(self._server.configuration, read)
        except ConfigError as error:
            if self._tells:
                tell_refusal(error)
            self._count.labels("refused").inc()
            return
        try:
            if change.applied:
                await self._server.adopt(change.configuration)
        except ConfigError as error:
            tell_refusal(error)
            self._count.labels("refused").inc()
        except Exception:
            log.exception("the configuration stays as it was")
            self._count.labels("refused").inc()
        else:
            self._count.labels("loaded").inc()
            self._server.metrics.loaded.set_to_current_time()
            logging.getLogger().setLevel(change.configuration.settings.server.log_level.upper())
            if self._tells:
                change.tell()

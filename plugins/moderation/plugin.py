"""The plugin: what is checked at which stage, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.plugin import ConfigError, Plugin

from .api import Moderations
from .classifiers import Classifiers
from .field import Wanted, asked
from .incoming import Blocked, Incoming
from .options import STAGES, ModerationOptions
from .outgoing import Outgoing
from .record import Record
from .rules import Rules
from .verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Services

    from .options import Stage


class Moderation(Plugin[ModerationOptions]):
    """Checks what users and tools say, and shows nothing of an answer that no check has passed."""

    Config = ModerationOptions
    on_error = "closed"
    enforces = True
    timeout = 10.0  # a check that is rate-limited is tried again for some seconds

    def __init__(self, config: ModerationOptions, services: Services) -> None:
        super().__init__(config, services)
        self._api: Moderations | None = None
        if config.api is not None:
            self._api = Moderations(config.api, services, entries=config.cache)
        self._rules = {stage: Rules(config.lists, stage) for stage in STAGES}
        self._classifiers = Classifiers.of(config, services)
        record = Record(services, expose_categories=config.expose_categories)
        self._incoming = Incoming(config, *self._checks("input"), record)
        self._outgoing = Outgoing(config, *self._checks("output"), record, services)

    def _checks(self, stage: Stage) -> tuple[Rules, Classifiers, Moderations | None]:
        options = self.config.api
        api = self._api if options is not None and stage in options.stages else None
        return self._rules[stage], self._classifiers.at(stage), api

    async def start(self) -> None:
        try:
            for rules in self._rules.values():
                await rules.start()
            await self._classifiers.start()
        except (OSError, ValueError, ImportError) as error:  # what it was given cannot be used
            raise ConfigError(str(error).splitlines()) from error
        if self._api is not None:
            await self._api.start()

    async def stop(self) -> None:
        await self._classifiers.stop()
        if self._api is not None:
            await self._api.stop()

    @classmethod
    def files(cls, config: ModerationOptions) -> Iterable[Path]:
        return [file for each in config.lists for file in each.files]

    @classmethod
    def summary(cls, config: ModerationOptions) -> str:
        checks = [each.name for each in config.lists] + [each.title for each in config.classifiers]
        if config.api is not None:
            checks.append(f"{config.api.model} at {config.api.base_url.host}")
        stages = [stage for stage in STAGES if config.checks(stage)]
        return f"{' and '.join(stages)} by {', '.join(checks)}"

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        wants = asked(self.config, request)
        if wants is not None:
            request = request.without("moderation")
        said = CLEAN
        try:
            if self.config.checks("input"):
                response, said = await self._incoming.ask(request, call_next, wants)
            else:
                response = await call_next(request)
        except Blocked as blocked:
            return self._incoming.refusal(request, blocked.verdict)
        if response.ok and (wants is not None or self.config.checks("output")):
            return await self._outgoing.checked(request, response, Wanted(wants, said))
        return response

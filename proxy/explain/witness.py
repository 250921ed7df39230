"""Watches each plugin of a chain at its work, in apply and in shadow mode, without touching it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from proxy.answer import answer
from proxy.chain import build
from proxy.errors import InvalidRequest, PluginContractError
from proxy.exchange import CURRENT_MARK
from proxy.plugin import Options, Plugin
from proxy.strictjson import JSONError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from proxy.chain import CountAnswer
    from proxy.exchange import Mark, PluginOutcome
    from proxy.layer import Layer
    from proxy.plugin import CallNext
    from proxy.response import ChatResponse
    from proxy.wire import ChatRequest

    Effect: TypeAlias = PluginOutcome | Literal["unreached"]

NOT_SENT = "(not sent)"
"""What is answered in place of the upstream."""


@dataclass(slots=True, eq=False)
class Step:
    """What one plugin was given, and what it did with it."""

    layer: Layer
    deferred: list[str]
    """The work that it put off until after the answer, and that is not done here."""
    arrived: ChatRequest | None = None
    """The request on its way through the chain; None if it did not get so far."""
    mark: Mark | None = None
    """None if the plugin does not see such requests."""
    passed_on: ChatRequest | None = None
    response: ChatResponse | None = None
    error: BaseException | None = None
    came_back: bool = False
    """The rest of the chain has answered."""

    @property
    def effect(self) -> Effect:
        if self.arrived is None:
            return "unreached"
        if self.mark is None:
            return "skip"
        if self.mark.outcome == "pass" and self._has_changed:
            return "modify"  # of which the chain takes no note if there was an error further in
        return self.mark.outcome

    @property
    def _has_changed(self) -> bool:
        made, arrived = self.passed_on, self.arrived
        return made is not None and arrived is not None and made.changes != arrived.changes

    @property
    def made(self) -> ChatRequest | None:
        """The request that the plugin made of the one that arrived; None if it ended there."""
        effect = self.effect
        if effect in ("respond", "reject", "unreached"):
            return None
        if self.passed_on is None or (effect == "error" and not self.came_back):
            return self.arrived if effect == "skip" or self.goes_on else None
        return self.passed_on

    @property
    def goes_on(self) -> bool:
        """Does the exchange go on without the plugin, where it fails?"""
        return self.layer.shadow or self.layer.on_error == "open"


class Witness(Plugin[Options]):
    """A plugin in whose place another one works, and is watched."""

    def __init__(self, step: Step) -> None:
        self._step = step

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        step = self._step
        step.mark = CURRENT_MARK.get()
        step.passed_on, step.response, step.error, step.came_back = None, None, None, False

        async def watched(request: ChatRequest) -> ChatResponse:
            step.passed_on = request
            response = await call_next(request)
            step.came_back = True
            return response

        try:
            step.response = await step.layer.plugin.handle(request, watched)
        except BaseException as error:
            step.error = error
            raise
        return step.response


def chain(steps: Sequence[Step], count: CountAnswer) -> CallNext:
    """The chain as it is built for clients, with a witness in each layer and no upstream."""
    call: CallNext = _not_sent
    for step in reversed(steps):
        layer = replace(step.layer, plugin=Witness(step))
        call = _entrance(step, build([layer], call, count))
    return call


def _entrance(step: Step, call: CallNext) -> CallNext:
    async def entered(request: ChatRequest) -> ChatResponse:
        step.arrived, step.mark = request, None
        return await call(request)

    return entered


async def _not_sent(request: ChatRequest) -> ChatResponse:
    """Take the request as the upstream's call does; and that is all."""
    request.exchange.source = "upstream"
    try:
        request.data()
    except JSONError as error:
        raise InvalidRequest(str(error), code="invalid_json") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise PluginContractError(f"the request cannot be written as JSON: {error}") from error
    request.exchange.sent = request
    return answer(request, NOT_SENT)

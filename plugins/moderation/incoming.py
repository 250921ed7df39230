"""The input: what is checked before, or beside, the call of the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from proxy.plugin import ContentRejected, alongside, answer

from .texts import masked, texts, turn
from .verdicts import CLEAN, CheckFailed, ModerationUnavailable, Verdict, total

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import TypeAlias

    from proxy.plugin import CallNext, ChatRequest, ChatResponse

    from .api import Moderations
    from .options import ModerationOptions
    from .record import Record
    from .rules import Rules
    from .texts import Path

    Said: TypeAlias = Mapping[int, Sequence[tuple[Path, str]]]
    Found: TypeAlias = Mapping[tuple[int, Path], Verdict]


T = TypeVar("T")


class Blocked(Exception):
    """The input is not to be answered."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(*verdict.categories)
        self.verdict = verdict


class Incoming:
    """Checks of what users and tools say."""

    def __init__(
        self, config: ModerationOptions, rules: Rules, api: Moderations | None, record: Record
    ) -> None:
        self._options = config.input
        self._expose_categories = config.expose_categories
        self._rules = rules
        self._api = api
        self._record = record

    async def ask(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The upstream's answer to what has passed.  Blocked, if it has not."""
        indexes = turn(request.messages, everything=self._options.history == "all")
        said = {index: list(texts(request.messages[index])) for index in indexes}
        found = await self._or_none(self._by_lists(said)) or {}
        listed = total(found.values())
        if listed.blocks:
            raise Blocked(listed)
        request = _with_masks(request, found)
        if self._api is None:
            self._record.found("input", listed)
            return await call_next(request)
        messages = ["\n".join(text for _, text in pieces) for pieces in said.values()]
        check = self._judge(self._or_none(self._api.check(messages)), listed)
        if self._options.order == "before":
            await check
            return await call_next(request)

        async def work() -> ChatResponse:
            return await call_next(request)

        return await alongside(check, work())

    async def _by_lists(self, said: Said) -> Found:
        """What the lists find in each text, and in those of one message together."""
        found: dict[tuple[int, Path], Verdict] = {}
        for index, pieces in said.items():
            for path, text in pieces:
                if verdict := await self._rules.check(text):
                    found[index, path] = verdict
            if len(pieces) > 1:
                whole = await self._rules.check("".join(text for _, text in pieces))
                if whole.blocks:
                    found[index, ()] = whole
        return found

    async def _judge(self, check: Coroutine[Any, Any, Verdict | None], listed: Verdict) -> None:
        verdict = listed + (await check or CLEAN)
        if verdict.blocks:
            raise Blocked(verdict)
        self._record.found("input", verdict)

    async def _or_none(self, check: Coroutine[Any, Any, T]) -> T | None:
        """What a check finds.  If it fails: nothing, or ModerationUnavailable."""
        try:
            return await check
        except CheckFailed as failure:
            self._record.failed("input", failure)
            if self._options.on_error == "closed":
                raise ModerationUnavailable from failure
            return None

    def refusal(self, request: ChatRequest, verdict: Verdict) -> ChatResponse:
        """What the client gets instead of an answer.  ContentRejected, unless told otherwise."""
        self._record.found("input", verdict)
        options, message = self._options, self._options.message
        if self._expose_categories:
            message = f"{message} ({', '.join(verdict.categories)})"
        headers = {"x-dragoman-moderation": self._record.header("input", verdict)}
        if options.answer == "error":
            raise ContentRejected(message, param="messages", code=options.code, headers=headers)
        response = answer(request, message, finish_reason="content_filter")
        response.headers.update(headers)
        return response


def _with_masks(request: ChatRequest, found: Found) -> ChatRequest:
    """The request with asterisks where lists want them."""
    messages = list(request.messages)
    for index in {index for index, _ in found}:
        spans = {path: verdict.masked for (at, path), verdict in found.items() if at == index}
        messages[index] = masked(messages[index], spans)
    return request.replace(messages=messages) if messages != request.messages else request

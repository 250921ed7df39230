"""The input: what is checked before, or beside, the call of the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.plugin import ContentRejected, alongside, answer

from .texts import NAME, images, masked, spoken, turn
from .verdicts import CLEAN, UNKNOWN, CheckFailed, ModerationUnavailable, Verdict, total

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import TypeAlias

    from proxy.plugin import CallNext, ChatRequest, ChatResponse

    from .api import Moderations
    from .classifiers import Classifiers
    from .field import Asked
    from .options import ModerationOptions
    from .record import Record
    from .rules import Rules
    from .texts import Path

    Said: TypeAlias = Mapping[int, Sequence[tuple[Path, str]]]
    Found: TypeAlias = Mapping[tuple[int, Path], Verdict]


class Blocked(Exception):
    """The input is not to be answered."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(*verdict.categories)
        self.verdict = verdict


class Incoming:
    """Checks of what users and tools say."""

    def __init__(
        self,
        config: ModerationOptions,
        rules: Rules,
        classifiers: Classifiers,
        api: Moderations | None,
        record: Record,
    ) -> None:
        self._options = config.input
        self._expose_categories = config.expose_categories
        self._looks_at_images = config.api is not None and config.api.images
        self._rules = rules
        self._early = classifiers.early(early=True)
        self._late = classifiers.early(early=False)
        self._api = api
        self._record = record

    async def ask(
        self, request: ChatRequest, call_next: CallNext, asked: Asked | None
    ) -> tuple[ChatResponse, Verdict]:
        """The upstream's answer to what has passed, and the verdict about that.  Blocked, if it has
        not."""
        strict = asked is not None and asked.blocks("input")
        indexes = list(turn(request.messages, everything=self._options.history == "all"))
        pieces = {index: list(spoken(request.messages[index])) for index in indexes}
        found = await self._first(pieces)
        verdict = self._judged(total(found.values()), strict=strict)
        request = _with_masks(request, found)
        if self._api is None and not self._late:
            self._record.found("input", verdict)
            return await call_next(request), verdict
        urls = [url for index in indexes for url in images(request.messages[index])]
        verdicts: list[Verdict] = []

        async def check() -> None:
            later = verdict + await self._then(pieces, urls)
            verdicts.append(self._judged(later, strict=strict))
            self._record.found("input", verdicts[0])

        async def work() -> ChatResponse:
            return await call_next(request)

        if self._options.order == "before":
            await check()
            response = await work()
        else:
            response = await alongside(check(), work())
        return response, verdicts[0]

    @staticmethod
    def _judged(verdict: Verdict, *, strict: bool) -> Verdict:
        verdict = verdict.strict() if strict else verdict
        if verdict.blocks:
            raise Blocked(verdict)
        return verdict

    async def _first(self, said: Said) -> Found:
        """What lists and quick classifiers find in each text, and in those of a message together."""
        found: dict[tuple[int, Path], Verdict] = {}
        for index, pieces in said.items():
            for path, text in pieces:
                found[index, path] = await self._known(self._quickly(text))
            parts = [text for path, text in pieces if path != NAME]
            if len(parts) > 1:
                whole = await self._known(self._quickly("".join(parts)))
                if whole.blocks:
                    found[index, ()] = whole
        return found

    async def _quickly(self, text: str) -> Verdict:
        verdict = await self._rules.check(text)
        return verdict if verdict.blocks else verdict + await self._early.check(text)

    async def _then(self, said: Said, urls: Sequence[str]) -> Verdict:
        """What other classifiers find in each message, and then the API in all of them."""
        messages = ["\n".join(text for _, text in pieces) for pieces in said.values()]
        verdict = CLEAN
        for message in messages:
            verdict += await self._known(self._late.check(message))
        if self._api is not None and not verdict.blocks:
            verdict += await self._known(self._api.check(messages))
            if self._looks_at_images and not verdict.blocks:
                verdict += await self._known(self._api.check_images(urls))
        return verdict

    async def _known(self, check: Coroutine[Any, Any, Verdict]) -> Verdict:
        """What a check finds.  If it fails: UNKNOWN, or ModerationUnavailable."""
        try:
            return await check
        except CheckFailed as failure:
            self._record.failed("input", failure)
            if self._options.on_error == "closed":
                raise ModerationUnavailable from failure
            return UNKNOWN

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
    """The request with asterisks where lists and classifiers want them."""
    messages = list(request.messages)
    for index in {index for (index, _), verdict in found.items() if verdict.masked}:
        spans = {path: verdict.masked for (at, path), verdict in found.items() if at == index}
        messages[index] = masked(messages[index], spans)
    return request.replace(messages=messages) if messages != request.messages else request

"""The output: nothing of an answer is shown that no check has passed."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.plugin import Chunk, FullResponse, StreamResponse, Usage, answer

from .gate import ReleaseGate
from .texts import ASIDE, masked, texts
from .verdicts import CLEAN, CheckFailed, ModerationUnavailable, Verdict
from .windows import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import ChatRequest, ChatResponse, Outcome, Services

    from .api import Moderations
    from .options import ModerationOptions
    from .record import Record
    from .rules import Rules
    from .texts import Path
    from .verdicts import Finding, Span
    from .windows import Window

API_INTERVAL, LOCAL_INTERVAL = 0.5, 0.1
"""Seconds between windows: where each costs a call, and where it costs next to nothing."""


class Outgoing:
    """Checks of what the model says."""

    def __init__(
        self,
        config: ModerationOptions,
        rules: Rules,
        api: Moderations | None,
        record: Record,
        services: Services,
    ) -> None:
        self._options = options = config.output
        self._rules = rules
        self._api = api
        self._record = record
        self._tokens = services.tokens
        interval = LOCAL_INTERVAL if api is None else API_INTERVAL
        self._pace = Pace(
            first=options.first,
            window=options.window,
            most=options.most,
            interval=interval if options.interval is None else options.interval,
            context=options.context,
            before=options.confirm,
        )

    async def checked(self, request: ChatRequest, response: ChatResponse) -> ChatResponse:
        """The answer, as far as it passes."""
        if isinstance(response, StreamResponse):
            return self._gated(request, response)
        assert isinstance(response, FullResponse)
        return await self._whole(request, response)

    async def _check(self, text: str, wide: str = "") -> Verdict:
        """What is found in a text; what the API alone would block, it must block in the wider text
        as well.  If a check fails: nothing, or ModerationUnavailable."""
        try:
            verdict = await self._rules.check(text)
            if self._api is not None and not verdict.blocks:
                found = await self._api.check([text])
                if found.blocks and len(wide) > len(text):
                    found = await self._api.check([wide])
                verdict += found
        except CheckFailed as failure:
            self._record.failed("output", failure)
            if self._options.on_error == "closed":
                raise ModerationUnavailable from failure
            return CLEAN
        return verdict

    # ---- in one piece

    async def _whole(self, request: ChatRequest, response: FullResponse) -> ChatResponse:
        """An answer in one piece, with an end to each choice that is blocked."""
        choices = response.body.get("choices")
        if not isinstance(choices, list):
            return await self._unreadable(request, response)
        made, verdict = [], CLEAN
        for choice in choices:
            changed, found = await self._choice(choice)
            made.append(changed)
            verdict += found
        self._record.found("output", verdict)
        if made == choices:
            return response
        response = response.replace({**response.body, "choices": made})
        response.headers["x-dragoman-moderation"] = self._record.header("output", verdict)
        if verdict.blocks:
            response.exchange.facts.finish_reasons[:] = ["content_filter"]
        return response

    async def _choice(self, choice: Any) -> tuple[Any, Verdict]:
        """A choice as it may be shown, and what was found in it."""
        fields = choice if isinstance(choice, Mapping) else {"message": choice}
        said = {name: value for name, value in fields.items() if name not in ASIDE}
        spans: dict[Path, Sequence[Span]] = {}
        verdict = CLEAN
        for path, text in texts(said):
            found = await self._check(text)
            spans[path] = found.masked
            verdict += found
        if verdict.blocks:
            content = self._options.replacement
            return {
                "index": fields.get("index", 0),
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "content_filter",
            }, verdict
        if not verdict.masked:
            return choice, verdict
        return {**fields, **masked(said, spans)}, verdict

    async def _unreadable(self, request: ChatRequest, response: FullResponse) -> ChatResponse:
        """An answer of no known form: a client may know it."""
        verdict = await self._check(response.data.decode("utf-8", "replace"))
        self._record.found("output", verdict)
        if not verdict.blocks:
            return response
        return answer(request, self._options.replacement, finish_reason="content_filter")

    # ---- as a stream

    def _gated(self, request: ChatRequest, response: StreamResponse) -> StreamResponse:
        context = copy_context()  # where note() finds this plugin's span
        found: dict[Finding, None] = {}

        async def check(window: Window) -> Verdict:
            verdict = await self._check(window.text, window.wide)
            found.update(dict.fromkeys(replace(each, span=None) for each in verdict.findings))
            return verdict

        async def ending(last: Chunk, choices: set[int]) -> Sequence[Chunk]:
            response.exchange.facts.finish_reasons[:] = ["content_filter"]
            return await self._ending(request, last, choices)

        async def settle(_: Outcome) -> None:
            context.run(self._record.found, "output", Verdict(tuple(found)))

        response.on_finish(settle)
        factor = (
            partial(float, 1) if self._api is None else partial(getattr, self._api.pace, "factor")
        )
        whole = self._options.hold == "answer"
        return response.gated(
            lambda: ReleaseGate(check, ending, self._pace, factor=factor, whole=whole)
        )

    async def _ending(
        self, request: ChatRequest, last: Chunk, choices: set[int]
    ) -> Sequence[Chunk]:
        """A normal end for every client: the replacement, the reason, the usage if it was asked."""
        frame = {k: v for k, v in last.body.items() if k not in ("choices", "usage", "obfuscation")}
        options = request.get("stream_options")
        asked = isinstance(options, Mapping) and options.get("include_usage") is True
        null = {"usage": None} if asked else {}
        steps: list[tuple[dict[str, str], str | None]] = [({}, "content_filter")]
        if text := self._options.replacement:
            steps.insert(0, ({"content": text}, None))
        ends = [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            for delta, reason in steps
            for index in sorted(choices)
        ]
        chunks = [Chunk.of({**frame, "choices": [end], **null}) for end in ends]
        if asked:
            usage = await self._usage(request)
            chunks.append(Chunk.of({**frame, "choices": [], "usage": usage.body()}))
        return chunks

    async def _usage(self, request: ChatRequest) -> Usage:
        """What the upstream has reported, or else what it has done so far."""
        facts = request.exchange.facts
        if facts.usage is not None:
            return facts.usage
        prompt = await self._tokens.count(request.data(), model=request.model)
        said = await self._tokens.count_text(facts.plain_text(), request.model)
        return Usage(prompt.tokens, said, exact=False)

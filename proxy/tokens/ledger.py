"""Remembers what messages cost, by digests of their raw JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chat import Chat, add_up
from .count import Doubt
from .lenient import decode
from .memo import Memo, digest, digests
from .text import estimate
from .weights import Overhead, Scale, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from .models import Model
    from .request import Request
    from .text import Meter


class Ledger:
    """Weighs requests; a message that was weighed before need not even be decoded."""

    def __init__(self, entries: int) -> None:
        self._weights: Memo[Weight] = Memo(entries)
        self._overheads: Memo[Overhead] = Memo(entries)

    def chat(self, request: Request, model: Model, meter: Meter) -> Chat:
        """Weigh a request and add it up."""
        scale = Scale(model, meter)
        raws = request.messages
        keys = digests(model.salt, raws)
        weights = [
            weight or self._weigh(raw, key, scale, meter)
            for weight, raw, key in zip(self._weights.get_all(keys), raws, keys, strict=True)
        ]

        def results(indexes: Sequence[int]) -> Weight:
            return self._results([raws[index] for index in indexes], scale, model, meter)

        instruction = raws[0] if weights and weights[0].instructs else None
        overhead = self._overhead(request, instruction, scale, model, meter)
        return add_up(weights, overhead, results)

    def _weigh(self, raw: msgspec.Raw, key: int, scale: Scale, meter: Meter) -> Weight:
        if known := self._weights.get(key):  # the same message twice in one request
            return known
        try:
            weight = scale.weigh(decode(raw))
        except (ValueError, RecursionError):  # bad Unicode, endless nesting
            tokens = estimate(len(memoryview(raw)))
            weight = Weight(tokens, tokens, Doubt.GREAT)
        if not meter.guessed:
            self._weights.put(key, weight)
        return weight

    def _results(
        self, raws: Sequence[msgspec.Raw], scale: Scale, model: Model, meter: Meter
    ) -> Weight:
        key = digest(model.salt, b"results", *raws)
        weight = self._weights.get(key)
        if weight is None:
            weight = scale.results([decode(raw) for raw in raws])
            if not meter.guessed:
                self._weights.put(key, weight)
        return weight

    def _overhead(
        self,
        request: Request,
        instruction: msgspec.Raw | None,
        scale: Scale,
        model: Model,
        meter: Meter,
    ) -> Overhead:
        if not request.has_settings:
            return Overhead(model.template.reply)
        key = digest(model.salt, *request.settings, instruction or b"")
        overhead = self._overheads.get(key)
        if overhead is None:
            overhead = _overhead(request, instruction, scale, meter)
            if not meter.guessed:
                self._overheads.put(key, overhead)
        return overhead


def _overhead(
    request: Request, instruction: msgspec.Raw | None, scale: Scale, meter: Meter
) -> Overhead:
    size = sum(len(memoryview(raw)) for raw in request.settings)
    meter.may_spend(size)
    try:
        settings = request.decoded_settings()
        first = None if instruction is None else decode(instruction)
        return scale.overhead(settings, first)
    except (ValueError, RecursionError):
        return Overhead(estimate(size), estimate(size), Doubt.GREAT)

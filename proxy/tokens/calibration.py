"""Learns from the usage that servers report: how an unknown template counts, or that one drifts."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from cachetools import LRUCache

_MODELS = 256  # that are kept, each at its server
_KEPT = 16  # observations of a model: templates change, and a fit takes 0.2 ms
_NEEDED = 5  # observations before a fit is used
_SHARE_KEPT = 100  # predictions that a share is taken of
_SHARE_NEEDED = 20

# What is believed of an unknown template before it is observed, and how far off it may be: a part
# that is always there, what a message costs beside its content, and how the vocabulary compares
# with o200k_base.  Vocabularies of open models were measured at 0.91 to 1.22 of its tokens.
_BELIEF = (3.0, 4.0, 1.0)
_SPREAD = (100.0, 4.0, 0.2)
_ROUNDS = 2  # of weighing down what lies far off


class Observation(NamedTuple):
    """A request, and what its server has counted."""

    messages: int
    text_tokens: int
    prompt_tokens: int


class Fit(NamedTuple):
    """prompt tokens = constant + per_message * messages + per_token * text tokens."""

    constant: float
    per_message: float
    per_token: float

    def tokens(self, messages: int, text_tokens: int) -> float:
        """Predict the tokens of a request."""
        return self.constant + self.per_message * messages + self.per_token * text_tokens


class Calibration:
    """Keeps the latest observations of each model at each server."""

    def __init__(self) -> None:
        self._observations: LRUCache[tuple[str, str], deque[Observation]] = LRUCache(_MODELS)
        self._fits: LRUCache[tuple[str, str], Fit] = LRUCache(_MODELS)
        self._exact: LRUCache[tuple[str, str], deque[bool]] = LRUCache(_MODELS)

    def observe(self, upstream: str, model: str, observation: Observation) -> None:
        """Learn how a server counts whose template is unknown."""
        key = (upstream, model)
        if key not in self._observations:
            self._observations[key] = deque(maxlen=_KEPT)
        self._observations[key].append(observation)
        if len(self._observations[key]) >= _NEEDED:
            self._fits[key] = fit(list(self._observations[key]))

    def fit(self, upstream: str, model: str) -> Fit | None:
        """What is known of a template by now: nothing, before enough was observed."""
        return self._fits.get((upstream, model))

    def note(self, upstream: str, model: str, *, was_exact: bool) -> None:
        """Keep whether a count that was called exact was so."""
        key = (upstream, model)
        if key not in self._exact:
            self._exact[key] = deque(maxlen=_SHARE_KEPT)
        self._exact[key].append(was_exact)

    def exact_share(self, upstream: str, model: str) -> float | None:
        """The share of counts called exact that were so; None before there are enough."""
        noted = self._exact.get((upstream, model), ())
        return sum(noted) / len(noted) if len(noted) >= _SHARE_NEEDED else None


def fit(observations: list[Observation]) -> Fit:
    """Fit a template, starting from the belief, so that few observations say little.

    Ridge regression; what lies far off is weighed down (Huber), so that one odd answer says little.
    """
    believed = Fit(*_BELIEF)
    fitted = believed
    for _ in range(_ROUNDS):
        matrix = [[0.0] * 3 for _ in range(3)]
        vector = [0.0] * 3
        for index, spread in enumerate(_SPREAD):
            matrix[index][index] = spread**-2
        for messages, text_tokens, prompt_tokens in observations:
            noise = 2 + 0.02 * prompt_tokens
            miss = abs(prompt_tokens - fitted.tokens(messages, text_tokens)) / noise
            weight = noise**-2 / max(1.0, miss)
            features = (1.0, messages, text_tokens)
            surplus = prompt_tokens - believed.tokens(messages, text_tokens)
            for row, feature in enumerate(features):
                vector[row] += weight * feature * surplus
                for column, other in enumerate(features):
                    matrix[row][column] += weight * feature * other
        change = _solve(matrix, vector)
        fitted = Fit(*(start + step for start, step in zip(_BELIEF, change, strict=True)))
    return fitted


def _solve(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve a positive definite system by elimination; such a system needs no pivoting."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for index, pivot in enumerate(rows):
        for row in rows:
            if row is not pivot:
                factor = row[index] / pivot[index]
                row[:] = [value - factor * other for value, other in zip(row, pivot, strict=True)]
    return [row[-1] / row[index] for index, row in enumerate(rows)]

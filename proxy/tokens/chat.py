"""Adds up a chat: what its messages cost together is more than what each costs by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .count import Doubt
from .weights import Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .weights import Overhead

_Group = tuple[int, list[int]]  # the message with the calls, those with the results


class Chat(NamedTuple):
    """The costs of a whole request."""

    messages: list[int]
    overhead: int
    texts: list[int]  # the contents of the messages alone
    overhead_text: int
    doubt: Doubt


def add_up(
    weights: Sequence[Weight],
    overhead: Overhead,
    results: Callable[[Sequence[int]], Weight],
) -> Chat:
    """Resolve what messages are to each other.

    A result carries the name of its function.  Results of calls that were made at once reach the
    model as one message, which `results` weighs; the difference is laid on the message with the
    calls, so that the results keep their own weights.
    """
    # Columns: a chat has hundreds of messages, and few of them need a look of their own.
    columns = zip(*weights, strict=True) if weights else [()] * len(Weight._fields)
    tokens, contents, doubts, _, speaking, calling, answering, naming = columns
    costs, texts, doubt = list(tokens), list(contents), max(overhead.doubt, *doubts, Doubt.NONE)
    if overhead.speech:
        costs = [
            cost + overhead.speech * speaks for cost, speaks in zip(costs, speaking, strict=True)
        ]
    groups: list[_Group] = []
    if any(calling) or any(answering) or any(naming):
        groups = _link(weights, costs)
    for call, answers in groups:
        together = results(answers)
        costs[call] += together.tokens - sum(weights[index].tokens for index in answers)
        texts[call] += together.text - sum(weights[index].text for index in answers)
        doubt = max(doubt, together.doubt)
    return Chat(costs, overhead.tokens, texts, overhead.text, doubt)


def _link(weights: Sequence[Weight], costs: list[int]) -> list[_Group]:
    """Add the names of functions to the costs of results; tell which were called at once."""
    names: dict[int, int] = {}
    groups: list[_Group] = []
    group_of: dict[int, _Group] = {}
    for index, weight in enumerate(weights):
        if len(weight.calls) == 1:
            names.update(weight.calls)
        elif weight.calls:
            groups.append((index, []))
            group_of.update((call, groups[-1]) for call, _ in weight.calls)
        elif weight.answers in group_of:
            group_of[weight.answers][1].append(index)
        elif weight.answers or weight.named:
            costs[index] += names.get(weight.answers, weight.named)
    return [group for group in groups if group[1]]

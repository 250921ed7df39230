from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.tokens.chat import add_up
from proxy.tokens.count import Doubt
from proxy.tokens.weights import Overhead, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = Weight(5, 1)
SPEECH = Weight(7, 3, speaks=True)


def no_results(_indexes: Sequence[int]) -> Weight:
    raise AssertionError("nothing was called at once")


def test_costs_and_texts_add_up() -> None:
    chat = add_up([USER, SPEECH], Overhead(30, 20), no_results)
    assert chat == ([5, 7], 30, [1, 3], 20, Doubt.NONE)


def test_no_messages_cost_the_overhead() -> None:
    assert add_up([], Overhead(3), no_results) == ([], 3, [], 0, Doubt.NONE)


def test_the_greatest_doubt_is_that_of_the_chat() -> None:
    doubtful = Weight(5, 1, Doubt.LITTLE)
    assert add_up([USER, doubtful], Overhead(3), no_results).doubt is Doubt.LITTLE
    assert add_up([doubtful], Overhead(3, 0, Doubt.GREAT), no_results).doubt is Doubt.GREAT


def test_every_speech_names_the_format_of_answers() -> None:
    chat = add_up([USER, SPEECH, USER, SPEECH], Overhead(3, speech=4), no_results)
    assert chat.messages == [5, 11, 5, 11]


def test_a_result_carries_the_name_of_its_function() -> None:
    calling = Weight(12, 4, calls=((111, 4),))
    other = Weight(12, 4, calls=((222, 9),))
    result = Weight(6, 2, answers=111, named=50)
    assert add_up([calling, other, result], Overhead(3), no_results).messages == [12, 12, 10]


def test_a_result_of_an_unknown_call_carries_its_own_name() -> None:
    result = Weight(6, 2, answers=111, named=5)
    assert add_up([result], Overhead(3), no_results).messages == [11]
    assert add_up([Weight(6, 2, named=5)], Overhead(3), no_results).messages == [11]


def test_results_at_once_are_weighed_together() -> None:
    calling = Weight(40, 30, calls=((1, 4), (2, 4)))
    results = [Weight(6, 2, answers=1), Weight(8, 4, answers=2)]
    asked = []

    def together(indexes: Sequence[int]) -> Weight:
        asked.append(list(indexes))
        return Weight(20, 10, Doubt.LITTLE)

    chat = add_up([USER, calling, *results, USER], Overhead(3), together)
    assert asked == [[2, 3]]
    assert chat.messages == [5, 40 + 20 - 14, 6, 8, 5]
    assert sum(chat.texts) == 1 + 30 + 10 + 1
    assert chat.doubt is Doubt.LITTLE


def test_calls_at_once_that_are_not_answered_yet() -> None:
    calling = Weight(40, 30, calls=((1, 4), (2, 4)))
    assert add_up([calling], Overhead(3), no_results).messages == [40]

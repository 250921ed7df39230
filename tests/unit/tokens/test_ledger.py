from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy.tokens.count import Doubt
from proxy.tokens.ledger import Ledger
from proxy.tokens.memo import Memo
from proxy.tokens.models import Models
from proxy.tokens.request import Request
from proxy.tokens.text import Allowance, LoopWouldStall, Meter

if TYPE_CHECKING:
    from proxy.tokens.chat import Chat
    from proxy.tokens.text import Vocabularies

MODEL = Models({}).find("gpt-4o")
NOTHING_NEW = Allowance(0, on_loop=True)  # on the loop, anything that is not remembered raises

BODY: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be terse. " * 20},
        {"role": "user", "content": "Weather in Paris and Rome? " * 10},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": city, "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'}}
                for city in ("Paris", "Rome")
            ],
        },
        {"role": "tool", "tool_call_id": "Paris", "content": "sunny"},
        {"role": "tool", "tool_call_id": "Rome", "content": "rainy"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "It."}}],
}


def weigh(
    ledger: Ledger, vocabularies: Vocabularies, body: dict[str, Any], allowance: Allowance
) -> Chat:
    meter = Meter(MODEL.encoding, vocabularies, Memo(100), allowance)
    return ledger.chat(Request(json.dumps(body).encode()), MODEL, meter)


def test_a_request_is_weighed_once(vocabularies: Vocabularies) -> None:
    ledger = Ledger(100)
    first = weigh(ledger, vocabularies, BODY, Allowance(10_000))
    assert weigh(ledger, vocabularies, BODY, NOTHING_NEW) == first


def test_only_a_new_message_is_weighed(vocabularies: Vocabularies) -> None:
    ledger = Ledger(100)
    first = weigh(ledger, vocabularies, BODY, Allowance(10_000))
    longer = {**BODY, "messages": [*BODY["messages"], {"role": "user", "content": "Thanks! " * 9}]}
    second = weigh(ledger, vocabularies, longer, Allowance(100 + 50, on_loop=True))
    assert second.messages[:-1] == first.messages
    assert second.overhead == first.overhead


def test_the_same_message_is_weighed_once_in_a_request(vocabularies: Vocabularies) -> None:
    body = {"messages": [{"role": "user", "content": "Again! " * 20}] * 100}
    chat = weigh(Ledger(1_000), vocabularies, body, Allowance(50 + 140, on_loop=True))
    assert len(set(chat.messages)) == 1


def test_an_estimate_is_not_remembered(vocabularies: Vocabularies) -> None:
    ledger = Ledger(100)
    guessed = weigh(ledger, vocabularies, BODY, Allowance(10))
    counted = weigh(ledger, vocabularies, BODY, Allowance(10_000))
    assert sum(counted.messages) < sum(guessed.messages)


def test_large_settings_are_not_read_on_the_loop(vocabularies: Vocabularies) -> None:
    body = {"messages": [], "tools": [{"description": "x" * 1_000}]}
    with pytest.raises(LoopWouldStall):
        weigh(Ledger(100), vocabularies, body, Allowance(500, on_loop=True))


def weigh_bytes(body: bytes, vocabularies: Vocabularies) -> Chat:
    meter = Meter(MODEL.encoding, vocabularies, Memo(100), Allowance(10_000))
    return Ledger(100).chat(Request(body), MODEL, meter)


def test_a_message_that_cannot_be_decoded_is_estimated(vocabularies: Vocabularies) -> None:
    chat = weigh_bytes(b'{"messages":[{"role":"user","content":"\xff"}]}', vocabularies)
    assert chat.doubt is Doubt.GREAT
    assert 0 < chat.messages[0] < 40


def test_settings_that_cannot_be_decoded_are_estimated(vocabularies: Vocabularies) -> None:
    chat = weigh_bytes(b'{"messages":[],"tools":["\xff"]}', vocabularies)
    assert chat.doubt is Doubt.GREAT
    assert 0 < chat.overhead < 40

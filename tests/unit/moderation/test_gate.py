"""Where windows are cut, what waits for what, and what is told to the client."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from plugins.moderation.gate import ReleaseGate
from plugins.moderation.pace import WIDEST
from plugins.moderation.pace import Pace as ServicePace
from plugins.moderation.texts import LONGEST, OVERLAP, slices, texts, turn
from plugins.moderation.verdicts import CLEAN, Finding, Verdict
from plugins.moderation.windows import Pace
from proxy import sse
from proxy.wire import Chunk
from tests.unit.moderation.streams import BLOCKED, DONE, ending, event, local


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


AT_ONCE = Pace(interval=0)


def watched(pace=AT_ONCE, *, verdict=CLEAN, **options):
    """A gate, and the texts that it has had checked."""
    asked = []

    async def check(window):
        asked.append(window.text)
        return verdict

    return ReleaseGate(check, ending, pace, **options), asked


async def feed(gate, *events):
    for each in events:
        gate.take(Chunk(each))
        for check in gate.checks():
            await check
    return [chunk.raw for chunk in gate.released()]


def content(text, index=0):
    return event(index, {"content": text})


async def test_a_window_ends_with_a_sentence():
    gate, asked = watched(Pace(first=10, interval=0, context=0))
    pieces = [content(piece) for piece in ("One", " two", ".", " Thr", "ee f", "our", " five")]
    released = await feed(gate, *pieces)
    assert asked == ["One two."]
    assert released == pieces[:3]


async def test_without_a_sentence_it_ends_with_a_word():
    gate, asked = watched(Pace(first=10, window=10, interval=0, context=0))
    await feed(gate, *map(content, ("One", " two", " thr", "ee")))
    assert asked == ["One two"]


async def test_a_dot_inside_a_number_or_name_ends_nothing():
    gate, asked = watched(Pace(first=12, interval=0))
    await feed(gate, *map(content, ("see ", "www", ".", "x", ".", "org", "/a")))
    assert asked == ["see www.x.org"]


async def test_windows_keep_their_distance():
    clock = Clock()
    gate, asked = watched(Pace(first=4, window=4, interval=1), clock=clock)
    await feed(gate, content("One. "), content("Two. "), content("Three. "))
    assert asked == ["One. "]
    clock.now = 1.1
    await feed(gate, content("Four. "))
    assert asked[1:] == ["One. Two. Three. Four. "]


async def test_a_service_under_pressure_gets_wider_windows():
    gate, asked = watched(Pace(first=4, window=4, interval=0), factor=lambda: 5.0)
    await feed(gate, *[content("Yes. ")] * 3)
    assert asked == []
    await feed(gate, content("Yes. "))
    assert asked == ["Yes. Yes. Yes. Yes. "]


async def test_arguments_of_tools_are_checked_when_they_are_complete():
    def call(index, text):
        return event(0, {"tool_calls": [{"index": index, "function": {"arguments": text}}]})

    gate, asked = watched()
    assert await feed(gate, *[call(0, "x" * 40)] * 9) == []
    assert len(await feed(gate, call(1, "{}"))) == 9
    assert asked == ["x" * 360]
    await feed(gate, event(0, {}, "tool_calls"))
    assert asked[1:] == ["{}"]


async def test_reasoning_is_complete_when_the_text_begins():
    gate, asked = watched()
    await feed(gate, event(0, {"reasoning": "Hm"}), event(0, {"content": "Yes"}))
    assert asked == ["Hm"]


async def test_two_names_for_one_text_are_no_reason_to_check_each_piece():
    both = {"reasoning": "so ", "reasoning_details": [{"index": 0, "text": "so "}]}
    gate, asked = watched(Pace())
    await feed(gate, *[event(0, both)] * 20)
    assert len(asked) == 2


async def test_what_cannot_be_read_is_checked_as_it_is():
    gate, asked = watched()
    raw = b'data: {"choices": [{"delta": {"content": "x"}, "logprobs": NaN}]}\n\n'
    assert await feed(gate, raw) == [raw]
    assert asked == [raw.decode()]


async def test_text_in_an_unusual_place_is_checked_too():
    choice = {"index": 0, "delta": {}, "message": {"content": "Hello there."}}
    raw = sse.encode(msgspec.json.encode({"choices": [choice]}))
    gate, asked = watched(Pace(first=4, interval=0))
    assert await feed(gate, raw) == [raw]
    assert asked == ["Hello there."]


async def test_what_waits_goes_on_when_no_more_comes():
    clock = Clock()
    gate, asked = watched(Pace(interval=0.5), clock=clock)
    assert await feed(gate, content("Wait")) == []
    clock.now = gate.patience
    gate.hurry()
    for check in gate.checks():
        await check
    assert asked == ["Wait"]
    assert len(gate.released()) == 1


async def test_a_mask_keeps_the_length_of_every_chunk():
    gate, _ = watched(Pace(first=1, interval=0), verdict=Verdict((Finding("x", "mask", (2, 5)),)))
    (released,) = await feed(gate, content("a bad word."))
    assert Chunk(released).texts() == {0: "a *** word."}


async def test_the_tokens_of_what_is_masked_are_not_told():
    gate, _ = watched(Pace(first=1, interval=0), verdict=Verdict((Finding("x", "mask", (2, 5)),)))
    body = Chunk(content("a bad word.")).body
    body["choices"][0]["logprobs"] = {"content": [{"token": "a bad word.", "logprob": 0}]}
    (released,) = await feed(gate, Chunk.of(body).raw)
    assert b"bad" not in released


async def test_every_open_choice_ends_when_one_is_blocked():
    gate, _ = watched(Pace(first=1, interval=0), verdict=BLOCKED)
    await feed(gate, event(1, {"role": "assistant"}), content("bad"))
    assert gate.is_closed
    ends = [chunk.choices[0]["index"] for chunk in await gate.ending()]
    assert ends == [0, 1]


async def test_an_end_that_was_seen_is_not_said_again():
    gate, _ = watched(Pace(first=1, interval=0), verdict=BLOCKED)
    await feed(gate, event(1, {}, "stop"), content("bad"))
    assert [chunk.choices[0]["index"] for chunk in await gate.ending()] == [0]


async def test_a_check_that_raises_ends_the_stream_with_its_error():
    async def check(window):
        raise LookupError

    response = local({"choices": [{"index": 0, "delta": {"content": "Hello."}}]})
    gated = response.gated(lambda: ReleaseGate(check, ending, Pace(interval=0)))
    written = []

    async def write(data):
        written.append(data)

    with pytest.raises(LookupError):
        await gated.send(write)
    assert written == []


async def test_checks_that_nobody_waits_for_are_stopped():
    stopped = []

    async def check(window):
        if "bad" in window.text:
            return BLOCKED
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(window.text)
            raise
        return CLEAN

    chunks = [
        {"choices": [{"index": i, "delta": {"content": text}}]}
        for i, text in enumerate(("fine.", "bad."))
    ]
    gated = local(*chunks).gated(lambda: ReleaseGate(check, ending, Pace(first=1, interval=0)))
    written = []

    async def write(data):
        written.append(data)

    await gated.send(write)
    assert b"".join(written).endswith(DONE)
    assert stopped == ["fine."]


# ---- texts


def test_the_new_turn():
    roles = ["system", "user", "assistant", "user", "tool", "user"]
    messages = [{"role": role} for role in roles]
    assert list(turn(messages, everything=False)) == [3, 4, 5]
    assert list(turn(messages, everything=True)) == [1, 3, 4, 5]
    assert list(turn([*messages, {"role": "assistant"}], everything=False)) == [3, 4, 5, 6]
    assert list(turn([{"role": "assistant"}], everything=False)) == [0]
    assert list(turn([], everything=False)) == []


def test_every_text_has_a_place():
    delta = {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "tool_calls": [{"index": 3, "id": "c", "function": {"name": "f", "arguments": "{}"}}],
        "audio": {"id": "x", "data": "UklGRg==", "transcript": "b"},
    }
    assert dict(texts(delta)) == {
        ("content",): "a",
        ("tool_calls", 3, "function", "arguments"): "{}",
        ("audio", "transcript"): "b",
    }


@pytest.mark.parametrize("length", [0, 1, LONGEST, LONGEST + 1, 5 * LONGEST + 17])
def test_long_texts_are_asked_about_in_pieces_that_overlap(length):
    text = msgspec.json.encode(list(range(length))).decode()[:length]
    pieces = [piece for _, piece in slices(text)]
    assert all(len(piece) <= LONGEST for piece in pieces)
    assert pieces[0] + "".join(piece[OVERLAP:] for piece in pieces[1:]) == text


def test_a_service_that_is_asked_too_often_is_asked_less_and_one_that_fails_is_left_alone():
    pace = ServicePace()
    for _ in range(9):
        pace.limited()
    assert pace.factor == WIDEST
    for _ in range(100):
        pace.succeeded()
    assert pace.factor == 1
    for _ in range(5):
        pace.failed(100)
    assert not pace.allows(101)
    assert pace.allows(111)

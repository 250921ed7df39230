"""Chats to compact: made at random, but valid as OpenAI's API has it."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = st.sampled_from(
    ["ship", "order 4711", "Mainz", "don't", "please", "预算是五百", "ok", "v2.1"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.just({"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}),
        st.just({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    ),
    min_size=1,
    max_size=3,
)
CONTENTS = st.one_of(TEXTS, PARTS)


@st.composite
def exchanges(draw, number: int):
    """What a user says, and all that answers it: parallel tools, results in any order."""
    messages = [{"role": "user", "content": draw(CONTENTS)}]
    for round_ in range(draw(st.integers(0, 2))):
        ids = [f"call_{number}_{round_}_{n}" for n in range(draw(st.integers(1, 3)))]
        calls = [
            {"id": id_, "type": "function", "function": {"name": "look", "arguments": "{}"}}
            for id_ in ids
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": id_, "content": draw(TEXTS)}
            for id_ in draw(st.permutations(ids))
        ]
    messages.append({"role": "assistant", "content": draw(TEXTS)})
    if draw(st.integers(0, 7)) == 0:
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": "Now!"})
    return messages


@st.composite
def chats(draw, most: int = 8):
    """A head, some exchanges, and the newest user message; or the tool loop that follows it."""
    head = draw(st.lists(st.sampled_from(["system", "developer"]), max_size=2))
    messages = [{"role": role, "content": draw(TEXTS)} for role in head]
    if draw(st.integers(0, 5)) == 0:
        messages.append({"role": "assistant", "content": "How can I help?"})
    for number in range(draw(st.integers(0, most))):
        messages += draw(exchanges(number))
    last = draw(exchanges(most))
    results = [i for i, m in enumerate(last) if m["role"] == "tool"]
    keep = draw(st.sampled_from([1, *(i + 1 for i in results if _closed(last[: i + 1]))]))
    return messages + last[:keep]


def _closed(messages) -> bool:
    return not open_calls(messages)


def open_calls(messages) -> set[str]:
    """Calls without a result; a result without its call raises KeyError."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            waiting |= {call["id"] for call in message.get("tool_calls") or ()}
    return waiting


def turn(number: int, size: int = 40) -> list[dict[str, str]]:
    """An exchange of about `size` words."""
    return [
        {"role": "user", "content": f"Question {number}: " + "why " * size},
        {"role": "assistant", "content": f"Answer {number}: " + "because " * size},
    ]

"""The text of a session: what is written is what is read, and it stays within its limits."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from plugins.sessions.export import belonging, exported
from plugins.sessions.options import SessionsOptions
from plugins.sessions.reconcile import reconcile
from plugins.sessions.records import Session
from plugins.sessions.writing import Exchanged, deleted, written

OPTIONS = SessionsOptions()


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def applied(text, edit):
    assert edit.expected == len(text)
    return edit.head + text[edit.start : edit.stop] + edit.tail


def exchange(
    text, incoming, answer, *, mode="auto", state="complete", options=OPTIONS, retracts=False
):
    """The text of a session after one more request, and what the model was sent."""
    session = Session.read(text)
    if retracts:
        session = session.without_last_turn()
    said = session.said(incomplete=options.incomplete == "keep")
    plan = reconcile([each.message for each in said], session.system, incoming, mode)
    new = Exchanged(f"{len(text):08}", 1_760_000_000, assistant(answer), state, {"model": "m"})
    edit, state = written(session, said, plan, new, options)
    return applied(text, edit), list(plan.messages), state


def history(text, *, incomplete=False):
    return [each.message for each in Session.read(text).said(incomplete=incomplete)]


def numbered(text):
    turns = exported("x", Session.read(text))["turns"]
    return {m["number"]: m["message"]["content"] for turn in turns for m in turn["messages"]}


words = st.text(max_size=6)
steps = st.tuples(
    st.sampled_from(["append", "resend", "edit", "drop", "retract", "break"]), words, words
)


@given(st.lists(steps, max_size=8), st.randoms(use_true_random=False))
def test_after_any_requests_the_session_is_what_a_list_would_be(steps, random):
    """The model is a list of turns: a question, an answer, and whether that is complete."""
    text, turns = b"", []
    for number, (kind, asked, answered) in enumerate(steps):
        question, answer = user(f"{number} {asked}"), assistant(f"{number} {answered}")
        complete = [turn for turn in turns if turn[2]]
        cut = random.randint(0, len(complete)) if kind in ("edit", "drop") else len(complete)
        if kind == "retract":
            del turns[-1:]
        elif cut < len(complete):
            rest = complete[cut + 1 :] if kind == "drop" else []
            turns = [*turns[: turns.index(complete[cut])], *rest]
        before = [message for turn in turns if turn[2] for message in turn[:2]]
        whole = kind in ("resend", "edit", "drop")
        incoming = [*before, question] if whole else [question]
        state = "incomplete" if kind == "break" else "complete"
        previous = text
        text, sent, _ = exchange(
            text,
            incoming,
            answer["content"],
            mode="replace" if whole else "auto",
            state=state,
            retracts=kind == "retract",
        )
        assert sent == [*before, question]
        turns.append((question, answer, kind != "break"))
        assert history(text) == [m for turn in turns if turn[2] for m in turn[:2]]
        assert list(numbered(text).values()) == [m["content"] for turn in turns for m in turn[:2]]
        if kind in ("append", "break", "resend"):
            assert text.startswith(previous), "what is there is not written again"


@given(
    st.lists(st.tuples(words, st.integers(0, 600)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1_000, 4_000),
)
def test_the_oldest_turns_go_and_are_counted(turns, most, size):
    options = SessionsOptions(max_turns=most, max_bytes=size)
    text = b""
    for stored, (asked, length) in enumerate(turns, 1):
        text, _, state = exchange(text, [user(asked)], "a" * length, mode="append", options=options)
        assert state == "complete"
        assert len(text) <= size
        session = Session.read(text)
        assert session.cover is not None
        assert session.cover.forgotten + len(session.turns()) == stored
        assert 1 <= len(session.turns()) <= most
        assert history(text)[-1] == assistant("a" * length)
        assert [m["role"] for m in history(text)] == ["user", "assistant"] * len(session.turns())


def test_a_turn_that_no_session_can_hold_leaves_its_trace_and_the_others_alone():
    options = SessionsOptions(max_bytes=1_000)
    text, _, _ = exchange(b"", [user("one")], "1", options=options)
    text, _, state = exchange(text, [user("two")], "2" * 2_000, options=options)
    assert state == "too_long"
    assert history(text) == [user("one"), assistant("1")]
    assert exported("x", Session.read(text))["turns"][1]["state"] == "too_long"
    text, sent, _ = exchange(text, [user("three")], "3", options=options)
    assert sent == [user("one"), assistant("1"), user("three")]


def test_system_messages_alone_that_are_too_long_are_not_kept():
    options = SessionsOptions(max_bytes=1_000)
    long = {"role": "system", "content": "s" * 2_000}
    text, _, state = exchange(b"", [long, user("one")], "1", options=options)
    assert (state, len(text) < 1_000) == ("too_long", True)


def test_the_newest_system_messages_stay_when_the_turns_that_brought_them_go():
    options = SessionsOptions(max_turns=2)
    text = b""
    for number in range(6):
        head = [{"role": "system", "content": f"rule {number}"}] if number < 3 else []
        text, _, _ = exchange(text, [*head, user(f"q{number}")], "a", options=options)
    assert [m["content"] for m in Session.read(text).system] == ["rule 2"]
    assert numbered(text) == {9: "q4", 10: "a", 11: "q5", 12: "a"}


def test_a_chat_that_came_whole_is_divided_into_its_turns():
    chat = [user("a"), assistant("b"), user("c"), user("d"), assistant("e"), user("f")]
    text, _, _ = exchange(b"", chat, "g")
    turns = exported("x", Session.read(text))["turns"]
    assert [[m["number"] for m in turn["messages"]] for turn in turns] == [
        [1, 2],
        [3, 4, 5],
        [6, 7],
    ]
    text, _, _ = exchange(b"", chat, "g", options=SessionsOptions(max_turns=1))
    assert numbered(text) == {6: "f", 7: "g"}


def test_an_answer_that_was_made_again_takes_the_place_of_the_other():
    text, _, _ = exchange(b"", [user("a")], "b")
    text, _, _ = exchange(text, [user("c")], "d")
    text, sent, _ = exchange(text, [user("a"), assistant("b"), user("c")], "e")
    assert sent == [user("a"), assistant("b"), user("c")]
    assert numbered(text) == {1: "a", 2: "b", 3: "c", 4: "e"}
    assert len(Session.read(text).turns()) == 2


def test_what_broke_off_is_kept_out_or_in_as_the_operator_wants():
    text, _, _ = exchange(b"", [user("a")], "b")
    text, _, _ = exchange(text, [user("c")], "half", state="incomplete")
    assert history(text) == [user("a"), assistant("b")]
    keep = SessionsOptions(incomplete="keep")
    _, sent, _ = exchange(text, [user("e")], "f", options=keep)
    assert sent == [user("a"), assistant("b"), user("c"), assistant("half"), user("e")]
    assert numbered(text) == {1: "a", 2: "b", 3: "c", 4: "half"}


def test_what_another_version_wrote_reads_as_nothing():
    text, _, _ = exchange(b"", [user("a")], "b")
    text, _, _ = exchange(text, [user("c")], "d")
    cover, first, second = text.splitlines(keepends=True)
    other = msgspec.json.encode({"v": 2, "id": "x"}) + b"\n"
    assert history(cover + other + second) == [user("c"), assistant("d")]
    assert history(cover + b"{damaged\n" + second) == [user("c"), assistant("d")]
    made, sent, _ = exchange(other + first + second, [user("e")], "f")
    assert sent == [user("e")]
    assert history(made) == [user("e"), assistant("f")]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [
    user("x"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "r"},
    assistant("y"),
]


def test_a_deleted_message_leaves_a_gap_and_takes_along_what_belongs_to_it():
    text, _, _ = exchange(b"", [*TOOLS, user("two")], "2")
    for number, gone, left in [
        (1, [1], [2, 3, 4, 5, 6]),
        (3, [2, 3], [4, 5, 6]),
        (4, [4], [5, 6]),
        (6, [6], [5]),
        (5, [5], []),
    ]:
        session = Session.read(text)
        assert belonging(session, number) == gone
        text = applied(text, deleted(session, text, gone))
        assert list(numbered(text)) == left
        assert belonging(Session.read(text), number) == []
    assert Session.read(text).cover is not None


def test_a_turn_with_tools_is_taken_back_whole():
    text, _, _ = exchange(b"", [user("one")], "1")
    session = Session.read(text)
    plan = reconcile(history(text), (), [user("x")])
    new = Exchanged("t", 1, TOOLS[1], "complete", {})
    edit, _ = written(session, session.said(incomplete=False), plan, new, OPTIONS)
    text = applied(text, edit)
    text, sent, _ = exchange(text, [TOOLS[2]], "y")
    assert sent == [user("one"), assistant("1"), *TOOLS[:3]]
    assert len(Session.read(text).turns()) == 2
    text, sent, _ = exchange(text, [user("z")], "w", retracts=True)
    assert sent == [user("one"), assistant("1"), user("z")]
    assert b"c1" not in text

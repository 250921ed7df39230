"""What a client sends and what is remembered: which messages the model sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.sessions.messages import meaning
from plugins.sessions.pairing import Unpaired, paired, piece
from plugins.sessions.reconcile import reconcile


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def calling(*ids, text=None):
    calls = [
        {"id": each, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        for each in ids
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def result(of):
    return {"role": "tool", "tool_call_id": of, "content": f"of {of}"}


def system(text):
    return {"role": "system", "content": text}


HELD = [user("one"), assistant("1"), user("two"), assistant("2")]
RULE = [system("rule")]


@pytest.mark.parametrize(
    ("incoming", "kind", "sent"),
    [
        ([user("three")], "appended", [*RULE, *HELD, user("three")]),
        ([user("a"), user("b")], "appended", [*RULE, *HELD, user("a"), user("b")]),
        ([user("one")], "appended", [*RULE, *HELD, user("one")]),
        ([system("new"), user("three")], "appended", [system("new"), *HELD, user("three")]),
        ([assistant("2"), user("x")], "appended", [*RULE, *HELD, user("x")]),
        ([], "appended", [*RULE, *HELD]),
        ([*HELD, user("three")], "resent", None),
        ([*RULE, *HELD, user("three")], "resent", None),
        ([user("one"), user("three")], "edited", None),
        ([user("one"), assistant("1"), user("other")], "edited", None),
        ([user("zero"), assistant("0"), user("three")], "edited", None),
        ([user("two"), assistant("2"), user("three")], "edited", None),
    ],
)
def test_what_is_new_is_told_from_a_whole_chat(incoming, kind, sent):
    plan = reconcile(HELD, RULE, incoming)
    assert plan.kind == kind
    if sent is None:
        assert plan.messages is incoming
    else:
        assert plan.messages == sent


def test_a_client_may_say_which_it_is():
    plan = reconcile(HELD, RULE, [*HELD[:2], user("x")], "append")
    assert plan.messages == [*RULE, *HELD, *HELD[:2], user("x")]
    incoming = [user("x")]
    plan = reconcile(HELD, RULE, incoming, "replace")
    assert (plan.kind, plan.keep, plan.system) == ("edited", 0, [])
    assert plan.messages is incoming


def test_a_first_request_goes_on_as_it_came():
    for incoming in ([user("a")], [system("s"), user("a")], [*HELD, user("x")]):
        plan = reconcile([], (), incoming)
        assert plan.messages is incoming
        assert plan.kind == "new"
    plan = reconcile([], RULE, [user("a")])
    assert plan.messages == [*RULE, user("a")]


def test_the_results_of_tools_follow_their_calls():
    held = [user("x"), calling("a", "b")]
    sent = reconcile(held, (), [result("a"), result("b")]).messages
    assert sent == [*held, result("a"), result("b")]
    again = [calling("a", "b"), result("a"), result("b")]
    assert reconcile(held, (), again).messages == sent


def test_calls_that_nobody_answers_are_left_out():
    held = [user("x"), calling("a", "b")]
    assert paired(held, [user("never mind")]) == [user("x"), user("never mind")]
    held[1] = calling("a", "b", text="Let me look.")
    left = paired(held, [user("never mind")])[1]
    assert left == {"role": "assistant", "content": "Let me look."}
    assert paired(held, [result("b")])[1]["tool_calls"] == calling("b")["tool_calls"]


@pytest.mark.parametrize(
    "fresh", [[result("z")], [result("a"), result("z")], [user("x"), result("a")]]
)
def test_a_result_without_its_call_is_refused(fresh):
    with pytest.raises(Unpaired):
        paired([user("x"), calling("a")], fresh)


def test_an_old_result_whose_call_is_gone_is_left_out():
    assert paired([result("a"), user("x")], [user("y")]) == [user("x"), user("y")]


def test_calls_and_results_are_one_piece():
    chat = [user("x"), calling("a", "b"), result("a"), result("b"), assistant("done"), None]
    assert [piece(chat, i) for i in range(5)] == [[0], [1, 2, 3], [1, 2, 3], [1, 2, 3], [4]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (assistant("a"), {"role": "assistant", "content": [{"type": "text", "text": "a "}]}),
        (assistant("a"), {**assistant("a"), "refusal": None, "annotations": [], "name": None}),
        (calling("a"), {**calling("a"), "content": ""}),
        (
            calling("a"),
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "a",
                        "index": 0,
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                    }
                ],
            },
        ),
        (
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": "No."},
        ),
    ],
)
def test_differences_that_mean_nothing(one, other):
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    "other",
    [
        assistant("b"),
        {**assistant("a"), "name": "bob"},
        user("a"),
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}],
        },
        calling("a", text="a"),
    ],
)
def test_differences_that_mean_something(other):
    assert meaning(assistant("a")) != meaning(other)


# ---- random chats: a client that is one of four kinds, and a model that is two lines long

words = st.sampled_from(["yes", "no", "go on"]) | st.text(
    st.characters(categories=["L", "N"]), max_size=4
)


@st.composite
def chats(draw):
    """A chat of whole turns, tool calls included."""
    made = []
    for turn in range(draw(st.integers(0, 4))):
        made.append(user(draw(words)))
        for number in range(draw(st.integers(0, 2))):
            ids = [f"{turn}.{number}.{k}" for k in range(draw(st.integers(1, 2)))]
            made += [calling(*ids), *map(result, ids)]
        made.append(assistant(draw(words)))
    return made


def is_valid(messages):
    """Do all results follow their calls, and all calls have their results?"""
    waiting = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return not waiting


@given(chats(), words)
def test_a_client_that_appends_is_given_the_whole_chat(held, text):
    sent = reconcile(held, RULE, [user(text)]).messages
    assert sent == [*RULE, *held, user(text)]
    assert is_valid(sent)


@given(chats(), words)
def test_a_client_that_resends_has_nothing_doubled(held, text):
    incoming = [*held, user(text)]
    plan = reconcile(held, RULE, incoming)
    assert plan.messages is incoming or not held
    assert (plan.keep, plan.fresh) == (len(held), [user(text)])


@given(chats(), chats(), words, st.data())
def test_of_an_edited_chat_the_clients_version_holds(held, other, text, data):
    cut = data.draw(st.integers(0, len(held)))
    incoming = [*held[:cut], *other, user(text)]
    plan = reconcile(held, (), incoming, "replace")
    assert plan.messages is incoming
    assert [*held[: plan.keep], *plan.fresh] == incoming
    assert plan.keep >= cut


@given(chats(), st.data(), words)
def test_whatever_is_dropped_what_is_sent_is_valid(held, data, text):
    """As after a message was deleted, or a part was forgotten."""
    left = [message for message in held if data.draw(st.booleans())]
    sent = reconcile(left, (), [user(text)], "append").messages
    assert is_valid(sent)
    assert [m for m in sent if m["role"] == "user"] == [
        m for m in [*left, user(text)] if m["role"] == "user"
    ]

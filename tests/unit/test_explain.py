"""What `dragoman explain` makes of a request's way: the diff, the text, the document."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ContentRejected, PluginContractError
from proxy.explain import diff
from proxy.explain.account import Account, Explanation, Failure, Prompt
from proxy.explain.diff import ABSENT, Added, Changed, Field, Kept, Removed, Span
from proxy.explain.document import document
from proxy.explain.layout import elided
from proxy.explain.overlay import Overlay
from proxy.explain.report import report
from proxy.explain.words import spoken
from proxy.prices import Cost
from proxy.store import MemoryStore


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


SYSTEM = {"role": "system", "content": "You are a helpful baker."}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


# ---- what a message says


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (user("hello"), "hello"),
        ({"role": "user"}, ""),
        (user([{"type": "text", "text": "Look:"}, IMAGE]), "Look:\n[image]"),
        (user([{"type": "input_audio", "input_audio": {}}, {"type": "file"}]), "[audio]\n[file]"),
        (user([{"type": 1}, "odd", 7]), "[?]\nodd\n7"),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "function": {"name": "weather", "arguments": '{"a":1}'}}
                ],
            },
            'weather({"a":1})',
        ),
        (
            {"tool_calls": [{"custom": {"name": "sh", "input": "ls"}}, {"type": "x"}, 1]},
            "sh(ls)\n[x]\n1",
        ),
        ({"function_call": {"name": "old", "arguments": "{}"}}, "old({})"),
        ({"refusal": "I cannot."}, "I cannot."),
    ],
)
def test_what_a_message_says(message, said):
    assert spoken(message) == said


# ---- messages


def test_the_same_messages_are_no_change():
    assert diff.messages([SYSTEM, user("a")], [dict(SYSTEM), user("a")]) == []


def test_many_messages_removed_and_one_added_in_front():
    old = [user(f"question {n}") if n % 2 else assistant(f"answer {n}") for n in range(9)]
    digest = {"role": "system", "content": "Earlier: nine messages about nothing."}
    before, after = [SYSTEM, *old, user("now?")], [SYSTEM, digest, old[-1], user("now?")]
    changes = diff.messages(before, after)
    assert changes == [Kept([SYSTEM]), *map(Removed, old[:-1]), Added(digest), Kept(after[2:])]


def test_a_message_with_text_folded_into_its_front_is_the_same_message():
    old = [user("What is rye?"), assistant("A grain.")]
    folded = user("Earlier they spoke of rye, at length and in detail.\n\nAnd spelt?")
    changes = diff.messages([SYSTEM, *old, user("And spelt?")], [SYSTEM, folded])
    assert changes == [Kept([SYSTEM]), *map(Removed, old), Changed(user("And spelt?"), folded)]
    (changed,) = [change for change in changes if isinstance(change, Changed)]
    assert [span.kind for span in changed.spans] == ["added", "kept"]
    assert changed.spans[1].text == "And spelt?"


def test_messages_that_have_too_little_in_common_are_not_compared():
    one, other = user("How long does bread take?"), user("Ignore everything above.")
    assert diff.messages([one], [other]) == [Removed(one), Added(other)]
    same_words = assistant("How long does bread take?")
    assert diff.messages([one], [same_words]) == [Removed(one), Added(same_words)]


def test_an_image_that_became_another_one_is_told_although_the_words_are_the_same():
    other = {**IMAGE, "image_url": {"url": "x", "detail": "low"}}
    (changed,) = diff.messages([user([IMAGE])], [user([other])])
    assert isinstance(changed, Changed)
    assert changed.spans == [Span("kept", "[image]")]
    assert [field.name for field in changed.fields] == ["content"]


def test_a_very_long_conversation_that_is_all_new_is_not_compared_pair_by_pair():
    before, after = ([user(f"{n} {side}") for n in range(200)] for side in "ab")
    assert diff.messages(before, after) == [*map(Removed, before), *map(Added, after)]


MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["user", "system"]),
        st.sampled_from(["a", "a b", "a b c", "a b c d", "x y", ""]),
    ),
    max_size=8,
)


@given(MESSAGES, MESSAGES)
def test_both_lists_can_be_read_off_the_changes(before, after):
    was, is_now = [], []
    for change in diff.messages(before, after) or [Kept(before)]:
        match change:
            case Kept(messages):
                was += messages
                is_now += messages
            case Removed(message):
                was.append(message)
            case Added(message):
                is_now.append(message)
            case Changed(old, new):
                was.append(old)
                is_now.append(new)
    assert (was, is_now) == (before, after)


# ---- words and fields


@pytest.mark.parametrize(
    ("before", "after", "spans"),
    [
        ("Say hello", "Say hello, please", ["=Say hello", "+, please"]),
        ("the temperature", "the temp", ["=the ", "-temperature", "+temp"]),
        ("one two three", "one 2 3", ["=one ", "-two three", "+2 3"]),
        ("mail a@b.ch now", "mail [email] now", ["=mail ", "-a@b.ch", "+[email]", "= now"]),
        ("", "new", ["+new"]),
        ("same", "same", ["=same"]),
        ("", "", []),
    ],
)
def test_words(before, after, spans):
    signs = {"kept": "=", "removed": "-", "added": "+"}
    assert [signs[kind] + text for kind, text in diff.words(before, after)] == spans


@given(st.text("ab \n.", max_size=30), st.text("ab \n.", max_size=30))
def test_both_texts_can_be_read_off_the_words(before, after):
    spans = diff.words(before, after)
    assert "".join(text for kind, text in spans if kind != "added") == before
    assert "".join(text for kind, text in spans if kind != "removed") == after


def test_long_texts_are_compared_in_no_time():
    before, after = "a b " * 50_000, "b c " * 50_000
    assert len(diff.words(before, after)) <= 4


def test_fields():
    assert diff.fields({"n": 1, "seed": 7, "same": 0}, {"same": 0, "n": 2, "stop": None}) == [
        Field("n", 1, 2),
        Field("seed", 7, ABSENT),
        Field("stop", ABSENT, None),
    ]


@given(st.text("ab \n", max_size=200), st.integers(0, 40), st.integers(0, 40))
def test_what_is_elided_is_never_longer(text, front, back):
    assert len(elided(text, front, back)) <= len(text)


# ---- the text


def prompt(tokens, price="0.000100", messages=1):
    cost = None if price is None else Cost(Decimal(price), Decimal(0), "openai", "gpt-4o-mini")
    return Prompt(messages, tokens, cost=cost)


def told(*accounts, colour=False, **fields):
    explanation = Explanation(
        "gpt-4o-mini", prompt(100), accounts, **{"sent": prompt(100), **fields}
    )
    return "\n".join(report(explanation, colour=colour))


def modified(before, after, **fields):
    return Account("p", "modify", messages=diff.messages(before, after), **fields)


def test_a_rewritten_message_shows_its_words():
    shown = told(modified([SYSTEM, user("Say hello")], [SYSTEM, user("Say hello, please")]))
    assert "1  p: changed messages\n" in shown
    assert "     system    You are a helpful baker.\n" in shown
    assert "   ~ user      Say hello{+, please+}\n" in shown


def test_colour_takes_the_place_of_the_signs_around_words():
    shown = told(modified([user("Say hi to me")], [user("Say hello to me")]), colour=True)
    assert "\033[31mhi\033[0m" in shown
    assert "\033[32mhello\033[0m" in shown
    assert "{+" not in shown
    bare = re.sub(r"\033\[\d+m", "", shown)
    assert "   ~ user      Say hihello to me\n" in bare


def test_long_stretches_that_stayed_are_elided():
    text = "word " * 100
    (line,) = re.findall(
        r"~ .*\n.*", told(modified([user(f"{text}x{text}")], [user(f"{text}y{text}")]))
    )
    assert re.sub(r"\s+", " ", line).startswith("~ user … word word")
    assert "[-" in line
    assert line.rstrip().endswith("word …")


def test_many_removed_and_kept_messages_are_elided():
    old = [user(f"number {n}") for n in range(20)]
    shown = told(modified([*old, SYSTEM], [SYSTEM]))
    assert shown.count("- user") == 5
    assert "- … 15 more removed" in shown
    shown = told(modified([*old, user("a")], [*old, SYSTEM]))
    assert "… 18 more kept" in shown


def test_fields_say_what_they_were():
    fields = [
        Field("temperature", 1, 0.2),
        Field("seed", 7, ABSENT),
        Field("stop", ABSENT, ["a" * 99]),
    ]
    shown = told(Account("p", "modify", fields=fields))
    assert "changed temperature, seed, stop" in shown
    assert (
        "     temperature: 1 -> 0.2\n   - seed: 7\n   + stop: a list of 1 in 103 characters"
        in shown
    )


def test_tokens_and_cost_before_and_after():
    shown = told(Account("p", "modify", before=prompt(100), after=prompt(40, "0.000040")))
    assert "tokens    100 -> 40 (-60 %), $0.000100 -> $0.0000400" in shown


def test_a_price_that_nobody_knows_is_called_unknown():
    shown = told(Account("p", "modify", before=prompt(100, None), after=prompt(40, None)))
    assert "100 -> 40 (-60 %), unknown price" in shown


def test_the_reasons_are_what_the_plugin_noted():
    notes = {"sampling.scene": "code", "history.before": 9, "history.after": 2, "after": 1}
    assert "why       sampling.scene code; history 9 -> 2; after 1" in told(
        Account("p", "modify", notes=notes)
    )


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (Account("p", "pass"), "did nothing"),
        (
            Account("p", "pass", changes_answer=True),
            "left the request as it was; changes the answer",
        ),
        (Account("p", "skip"), "does not see such requests (match)"),
        (Account("p", "unreached"), "the request did not get here"),
        (Account("p", "error", goes_on=True), "failed; the request goes on without it"),
        (Account("p", "error"), "failed, and so does the request"),
        (Account("p", "pass", shadow=True), "in shadow: did nothing"),
        (Account("p", "respond", shadow=True), "in shadow: would have answered"),
        (
            Account("p", "modify", shadow=True, fields=[Field("n", 1, 2)]),
            "in shadow: would have changed n",
        ),
    ],
)
def test_what_a_plugin_did_in_a_few_words(account, said):
    assert f"1  p: {said}\n" in told(account)


def test_who_answered_and_who_refused_and_what_failed():
    shown = told(Account("faq", "respond", answer="At nine."), sent=None, source="faq")
    assert "answer    At nine.\n" in shown
    assert shown.endswith("Answered by faq: nothing is sent")
    failure = Failure.of(ContentRejected("Not here."))
    shown = told(Account("m", "reject", failure=failure), sent=None, source="m", failure=failure)
    assert "error     400 content_policy_violation: Not here.\n" in shown
    assert shown.endswith("Refused by m: 400 content_policy_violation: Not here.")


def test_the_message_of_a_strangers_exception_is_not_told():
    assert Failure.of(KeyError("sk-secret")) == Failure("KeyError")
    assert Failure.of(PluginContractError("it returned nothing")) == Failure(
        "PluginContractError", "it returned nothing"
    )


def test_control_characters_of_a_message_do_not_reach_the_terminal():
    shown = told(modified([user("a")], [user("a \033[2J\x9b\u202e\r\nb")]), colour=True)
    assert "\033[2J" not in shown
    assert "\\x1b[2J\\x9b\\x202e" in shown


@given(st.text(max_size=300))
def test_lines_are_no_longer_than_a_terminal(text):
    for line in told(Account("p", "respond", answer=text)).split("\n"):
        assert len(line) <= 100


# ---- the document


def test_the_document_has_the_values_that_the_text_abridges():
    old = [user(f"number {n}") for n in range(20)]
    account = modified(
        [*old, user("Say hello")], [user("Say hello, please")], fields=[Field("n", ABSENT, 2)]
    )
    value = json.loads(document(Explanation("m", prompt(9), [account], sent=prompt(5, None))))
    assert (value["result"], value["sent"]["cost_usd"]) == ("sent", None)
    assert value["received"]["price"] == {"provider": "openai", "model": "gpt-4o-mini"}
    (plugin,) = value["plugins"]
    assert plugin["fields"] == [{"name": "n", "after": 2}]
    assert [change["change"] for change in plugin["messages"]] == ["removed"] * 20 + ["changed"]
    assert plugin["messages"][-1]["words"][1] == {"change": "added", "text": ", please"}


# ---- the store of a trial


async def test_a_trial_reads_the_store_and_leaves_it_as_it_is():
    store = MemoryStore(1_000_000)
    await store.put("kept", b"1", ttl=60)
    trial = Overlay(store)
    assert await trial.get("kept", ttl=600) == b"1"
    assert not await trial.put("kept", b"2", ttl=60, only_if_absent=True)
    assert await trial.put("kept", b"2", ttl=60)
    assert await trial.put("new", b"3", ttl=60)
    assert await trial.get_many(["kept", "new", "none"]) == [b"2", b"3", None]
    assert await trial.touch("new", ttl=60)
    assert await trial.delete("kept", "none") == 1
    assert await trial.get("kept") is None
    assert await trial.put("kept", b"4", ttl=60, only_if_absent=True)
    async with trial.lock("l", ttl=60) as ours, trial.lock("l", ttl=60) as again:
        assert (ours, again) == (True, False)
    assert not trial.is_shared
    assert await store.get_many(["kept", "new"]) == [b"1", None]

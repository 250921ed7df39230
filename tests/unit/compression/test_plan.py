"""Where chats are cut: at the same places for everybody, seldom, and never through a tool loop."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.billing import chat
from plugins.compression.history import read
from plugins.compression.plan import LEAST_SAVING, EveryK, Hysteresis, Window, segments
from tests.unit.compression.chats import chats, open_calls

POLICY = Hysteresis(high=1_000, low=300, keep=2, segment=30, most=4)
COSTS = st.integers(1, 400)


@st.composite
def histories(draw):
    messages = draw(chats())
    return read(messages, [draw(COSTS) for _ in messages])


def plain(turns: int, *, head: int = 100, user: int = 20, assistant: int = 80):
    """A chat of so many exchanges that all cost the same, and a newest user message."""
    roles = ["system", *("user", "assistant") * turns, "user"]
    costs = {"system": head, "user": user, "assistant": assistant}
    return read([{"role": role} for role in roles], [costs[role] for role in roles])


POLICIES = st.sampled_from([POLICY, EveryK(3, 2, 30, 4), Window(600, None), Window(None, 3)])


@given(histories(), POLICIES)
def test_a_cut_stands_before_a_user_message_with_no_call_open(history, policy):
    for cut in policy.cuts(history):
        assert history.messages[cut]["role"] == "user"
        assert cut > history.head
        assert open_calls(history.messages[:cut]) == set()


@given(histories(), st.sampled_from([POLICY, EveryK(3, 2, 30, 4)]))
def test_what_was_cut_stays_cut_as_the_chat_grows(history, policy):
    """The replay finds for each beginning of the chat a beginning of the cuts it finds later."""
    cuts = policy.cuts(history)
    for end in range(history.head, len(history.messages) + 1):
        earlier = policy.cuts(read(history.messages[:end], history.costs[:end]))
        assert cuts[: len(earlier)] == earlier


@given(histories())
def test_a_cut_leaves_out_a_fair_share_and_keeps_the_newest_exchanges(history):
    before = history.head
    for cut in POLICY.cuts(history):
        assert history.turns[-1] - history.turns[cut] >= POLICY.keep
        assert history.cost(before, cut) >= LEAST_SAVING * history.cost(before, cut)
        before = cut


def test_the_prompt_goes_from_the_high_mark_to_the_low_one():
    policy = Hysteresis(12_000, 3_000, 3, 300, 6)
    sizes = {"head": 1_200, "user": 120, "assistant": 350}
    turns = next(n for n in range(99) if policy.cuts(plain(n, **sizes)))
    before, after = plain(turns - 1, **sizes), plain(turns, **sizes)
    assert 11_000 < before.sums[-1] <= 12_000
    (cut,) = policy.cuts(after)
    assert 2_000 <= 1_200 + 300 + after.cost(cut, len(after.messages)) <= 3_300


def test_cuts_are_foretold_in_time_to_sum_up_what_they_leave_out():
    policy, cuts, told = Hysteresis(12_000, 3_000, 3, 300, 6), set(), set()
    for seed in range(8):
        history = chat(90, seed)
        ends = [index + 1 for index in history.asked]
        for end in ends:
            part = read(history.messages[:end], history.costs[:end])
            found = policy.cuts(part)
            cuts |= {(seed, cut) for cut in found}
            if (coming := policy.coming(part, found)) is not None:
                told.add((seed, coming))
    assert len(cuts) > 20
    assert len(cuts - told) <= 0.1 * len(cuts)
    assert len(told - cuts) <= 0.1 * len(cuts) + 8  # the last one of each chat is still to come


def test_a_date_in_the_system_prompt_does_not_move_the_cuts():
    assert POLICY.cuts(plain(20, head=100)) == POLICY.cuts(plain(20, head=110))


def test_a_large_head_leaves_room_for_a_history():
    history = plain(40, head=50_000)
    cuts = POLICY.cuts(history)
    assert len(cuts) > 1
    assert all(history.cost(a, b) >= 100 for a, b in pairwise(cuts))


def test_one_huge_message_does_not_make_every_turn_a_compaction():
    messages = [{"role": r} for r in ("user", "assistant") * 12]
    costs = [5_000 if i == 14 else 20 for i in range(len(messages))]
    counts = [len(POLICY.cuts(read(messages[:n], costs[:n]))) for n in range(1, len(messages) + 1)]
    assert counts[-1] <= 2


def test_the_window_is_filled_from_the_newest_message_back():
    history = plain(10)
    (cut,) = Window(350, None).cuts(history)
    assert history.cost(cut, len(history.messages)) <= 350 < history.cost(cut - 2, 22)
    assert history.turns[Window(None, 3).cuts(history)[0]] == 9


def test_a_window_smaller_than_the_newest_message_keeps_that_one():
    history = plain(10)
    assert Window(5, None).cuts(history) == [21]


def test_every_k_sums_up_k_exchanges_and_keeps_some():
    history = plain(12)
    assert [history.turns[cut] for cut in EveryK(5, 3, 30, 4).cuts(history)] == [6]
    assert [history.turns[cut] for cut in EveryK(5, 3, 30, 4).cuts(plain(13))] == [6, 11]
    assert EveryK(5, 3, 30, 4).coming(history, EveryK(5, 3, 30, 4).cuts(history)) == 21


@given(st.integers(1, 60), st.integers(1, 8))
def test_segments_are_merged_from_the_oldest_on(number, most):
    cuts = list(range(10, 10 + 3 * number, 3))
    found = segments(4, cuts, most)
    assert len(found) == min(number, most)
    assert found[0][0] == 4
    assert found[-1][1] == cuts[-1]
    assert all(a[1] == b[0] for a, b in pairwise(found))


def test_most_segments_survive_another_cut():
    """Else every compaction would have every summary made anew."""
    cuts = list(range(10, 200, 3))
    made = {s for n in range(1, len(cuts) + 1) for s in segments(4, cuts[:n], 6)}
    assert len(made) <= 2.5 * len(cuts)


@pytest.mark.parametrize("policy", [POLICY, EveryK(3, 2, 30, 4), Window(600, None)])
@pytest.mark.parametrize("roles", [[], ["system"], ["user"], ["assistant"], ["user"] * 50])
def test_odd_chats_are_planned(policy, roles):
    history = read([{"role": role} for role in roles], [90] * len(roles))
    cuts = policy.cuts(history)
    assert policy.coming(history, cuts) is None or roles == ["user"] * 50
    assert all(history.messages[cut]["role"] == "user" for cut in cuts)

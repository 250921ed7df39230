"""Retrieval: what the newest message asks about comes back, word for word, and within the budget."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import recall
from plugins.compression import passages as index_of_messages
from plugins.compression import retrieval
from plugins.compression.retrieval import Excerpt, Passage, Retriever
from plugins.compression.words import terms

if TYPE_CHECKING:
    from collections.abc import Sequence


def passage(index: int, text: str, tokens: int | None = None) -> Passage:
    return Passage(
        index,
        index // 2 + 1,
        ("user", "assistant")[index % 2],
        text,
        blake2b(text.encode("utf-8", "surrogatepass")).digest(),
        4 + len(text) // 4 if tokens is None else tokens,
    )


def passages(*texts: str, start: int = 0) -> list[Passage]:
    return [passage(index, text) for index, text in enumerate(texts, start)]


def indices(found: Sequence[Excerpt]) -> list[int]:
    return [excerpt.passage.index for excerpt in found]


SMALL_TALK = [f"We talked about topic{number} for a while." for number in range(40)]


def history(**said: str) -> list[Passage]:
    """Small talk, in which other things were said at some places: `at_7="..."`."""
    texts = list(SMALL_TALK)
    for place, text in said.items():
        texts[int(place.removeprefix("at_"))] = text
    return passages(*texts)


LEASE = history(at_7="The landlord wants a deposit of 1,850 euros by March 3rd.")


def test_what_the_query_names_comes_back_as_it_was_written():
    found = Retriever(context=()).find(LEASE, [], "How high was the deposit?", budget=600)
    assert [(excerpt.passage, excerpt.text) for excerpt in found] == [(LEASE[7], LEASE[7].text)]
    assert found[0].tokens == LEASE[7].tokens


def test_another_form_of_the_word_is_found():
    dropped = history(at_7="I cancelled the gym membership.")
    assert 7 in indices(Retriever().find(dropped, [], "Did I cancel something?", budget=600))


def test_chinese_is_found():
    dropped = history(at_7="押金一共是三千元，下周二之前付清。")
    assert 7 in indices(Retriever().find(dropped, [], "押金要付多少？", budget=600))


def test_an_id_is_found():
    dropped = history(at_7="It is order ORD-20391-B.", at_9="It is order ORD-20392-B.")
    found = Retriever(context=()).find(dropped, [], "where is ord-20391-b now", budget=12)
    assert indices(found) == [7]


def test_excerpts_stand_in_the_order_of_the_chat():
    dropped = history(
        at_30="A deposit: the deposit.", at_3="Some words on a deposit, a lease and more."
    )
    found = Retriever(context=()).find(dropped, [], "deposit", budget=600)
    assert indices(found) == [3, 30]


class TestNeighbours:
    def test_an_answer_comes_with_its_question(self):
        dropped = history(at_6="How much is the deposit?", at_7="1,850, by the third.")
        assert indices(Retriever().find(dropped, [], "the deposit?", budget=25)) == [6, 7]

    def test_they_raise_what_stands_between_them(self):
        dropped = history(
            at_6="The deposit again.", at_7="Fine.", at_8="So the deposit it is.", at_20="Fine."
        )
        dropped[20] = passage(20, "Well.")
        assert 7 in indices(Retriever().find(dropped, [], "deposit", budget=40))

    def test_without_context_there_are_none(self):
        dropped = history(at_6="How much is the deposit?", at_7="1,850, by the third.")
        found = Retriever(context=()).find(dropped, [], "the deposit?", budget=600)
        assert indices(found) == [6]

    def test_a_large_one_does_not_take_the_room_of_what_is_found(self):
        dropped = history(at_6="deposit deposit", at_7="blah " * 200, at_20="the deposit")
        budget = sum(dropped[index].tokens for index in (6, 7, 20)) - 1
        found = indices(Retriever().find(dropped, [], "deposit", budget=budget))
        assert 7 not in found
        assert {6, 20} <= set(found)


class TestGate:
    def test_nothing_where_the_query_names_nothing(self):
        assert Retriever().find(LEASE, [], "And what do you think of this?", budget=600) == []

    def test_nothing_where_the_history_never_had_it(self):
        assert Retriever().find(LEASE, [], "Tell me of submarines", budget=600) == []

    def test_nothing_where_all_passages_have_it(self):
        assert Retriever().find(LEASE, [], "we talked for a while", budget=600) == []

    def test_nothing_where_the_kept_part_says_it_better(self):
        kept = passages("The deposit: what of the deposit is paid?", start=40)
        dropped = history(at_7="There was a deposit among many other things that we had to see to.")
        assert Retriever().find(dropped, kept, "What of the deposit is paid?", budget=600) == []

    def test_what_the_dropped_part_says_better_although_the_kept_part_has_a_word_of_it(self):
        kept = passages(
            "I shall think of the deposit that is due and of the rooms and their colours.", start=40
        )
        dropped = history(at_7="The deposit is due on March 3rd.", at_8="Is the deposit due then?")
        assert 7 in indices(Retriever().find(dropped, kept, "When is the deposit due?", budget=600))

    def test_what_only_the_dropped_part_has_although_the_kept_part_has_all_else(self):
        kept = passages("Is the deposit paid? The deposit was paid by Ann: paid, I mean.", start=40)
        dropped = history(at_7="I bought a cello.")
        query = "Was the deposit paid by Ann for the cello?"
        assert 7 in indices(Retriever().find(dropped, kept, query, budget=600))

    def test_single_characters_open_nothing(self):
        dropped = history(at_7="今天下雨了。")
        assert Retriever().find(dropped, [], "买雨伞", budget=600) == []
        assert Retriever(gated=False).find(dropped, [], "买雨伞", budget=600)

    def test_a_term_in_two_of_few_passages_opens_it(self):
        few = passages("The deposit is due.", "Yes, the deposit.", "Good.", "Fine.")
        assert indices(Retriever().find(few, [], "deposit?", budget=600)) == [0, 1, 2, 3]

    def test_a_term_in_three_of_few_passages_does_not(self):
        few = passages("The deposit is due.", "Yes, the deposit.", "The deposit!", "Fine.")
        assert Retriever().find(few, [], "deposit?", budget=600) == []
        assert Retriever(gated=False).find(few, [], "deposit?", budget=600)


class TestPrevious:
    def test_a_short_query_leans_on_the_message_before_it(self):
        kept = passages("What did the landlord want?", "Let me see.", start=40)
        assert Retriever().find(LEASE, kept, "And when?", budget=600) == []
        found = Retriever().find(LEASE, kept, "And when?", kept[0].text, budget=600)
        assert 7 in indices(found)

    def test_a_long_query_does_not(self):
        query = "Write about mountains, rivers, valleys, forests, meadows, glaciers"
        assert Retriever().find(LEASE, [], query, "What did the landlord want?", budget=600) == []

    def test_the_query_counts_more(self):
        dropped = history(at_7="The deposit was paid.", at_20="The plumber was paid.")
        found = Retriever(context=()).find(dropped, [], "plumber", "deposit", budget=10)
        assert indices(found) == [20]


class TestKept:
    def test_nothing_comes_back_that_is_in_the_kept_part(self):
        dropped = history(at_7="The deposit is due.", at_20="The deposit is 1,850 euros.")
        kept = passages("The deposit is due.", start=40)
        assert 7 not in indices(Retriever(gated=False).find(dropped, kept, "deposit", budget=600))

    def test_what_was_said_twice_comes_once_as_it_was_said_last(self):
        dropped = history(at_7="The deposit is due.", at_20="The deposit is due.")
        assert indices(Retriever(context=()).find(dropped, [], "deposit", budget=600)) == [20]


class TestFollow:
    dropped = history(at_7="Always add the deposit.", at_20="Forget the rule on sums.")

    def test_a_message_comes_with_what_takes_it_back(self):
        follow = {7: [20]}
        found = Retriever(context=()).find(
            self.dropped, [], "deposit", budget=600, follow=lambda index: follow.get(index, [])
        )
        assert indices(found) == [7, 20]

    def test_or_not_at_all(self):
        budget = self.dropped[7].tokens + self.dropped[20].tokens - 1
        found = Retriever(context=()).find(
            self.dropped,
            [],
            "deposit",
            budget=budget,
            follow=lambda index: [20] if index == 7 else [],
        )
        assert found == []

    def test_what_follows_has_what_follows_it_even_in_a_circle(self):
        follow = {7: [20], 20: [30], 30: [7]}
        found = Retriever(context=()).find(
            self.dropped, [], "deposit", budget=600, follow=lambda index: follow.get(index, [])
        )
        assert indices(found) == [7, 20, 30]

    def test_neighbours_keep_the_rule_too(self):
        found = Retriever().find(
            self.dropped, [], "deposit", budget=60, follow=lambda index: [20] if index == 6 else []
        )
        assert (6 in indices(found)) <= (20 in indices(found))
        assert 7 in indices(found)

    def test_what_was_not_dropped_is_in_the_prompt_anyway(self):
        found = Retriever(context=()).find(
            self.dropped, [], "deposit", budget=600, follow=lambda index: [99]
        )
        assert indices(found) == [7]


class TestLongMessages:
    paragraphs = tuple(f"Chapter {number}. " + "It went on and on. " * 20 for number in range(20))
    text = "\n\n".join((*paragraphs[:12], "The deposit is 1,850 euros.", *paragraphs[12:]))

    def found(self, text: str, budget: int = 600, query: str = "deposit") -> list[Excerpt]:
        return Retriever(context=()).find([*history(), passage(40, text)], [], query, budget=budget)

    def test_only_the_piece_that_has_it_comes_back(self):
        (excerpt,) = self.found(self.text)
        assert "The deposit is 1,850 euros." in excerpt.text
        assert excerpt.text in self.text
        assert self.text.partition(excerpt.text)[0].endswith("\n\n")
        assert excerpt.tokens <= index_of_messages.PIECE + 1

    def test_its_tokens_are_its_share(self):
        (excerpt,) = self.found(self.text)
        share = len(excerpt.text) / len(self.text)
        assert excerpt.tokens == pytest.approx(passage(40, self.text).tokens * share, abs=2)

    def test_pieces_that_stand_together_are_one_excerpt(self):
        text = "\n\n".join(["The deposit. " + "It went on and on." * 40] * 4)
        (excerpt,) = self.found(text, budget=100_000)
        assert excerpt.text == text

    @pytest.mark.parametrize("sentence", ["Blah blah blah. ", "没有什么可说的。", "blah", "\n"])
    def test_one_without_paragraphs_is_cut_too(self, sentence):
        text = sentence * 2_000 + " The deposit is due. " + sentence * 2_000
        (excerpt,) = self.found(text)
        assert "deposit" in excerpt.text
        assert excerpt.text in text
        assert excerpt.tokens <= 600

    def test_one_of_400_tokens_stays_whole(self):
        (excerpt,) = self.found("The deposit. " + "x" * 1_500)
        assert excerpt.text == "The deposit. " + "x" * 1_500


words = st.sampled_from(
    "deposit lease rent euros march landlord plumber 押金 房租 ok \ud800 \n\n .".split(" ")
)
texts = st.lists(words, max_size=30).map(" ".join)
chats = st.lists(st.tuples(texts, st.integers(0, 900)), max_size=25)


@given(chats, chats, texts, texts, st.integers(0, 1_000), st.sampled_from([0, 1, 3, 20_000]))
@settings(max_examples=200, deadline=None)
def test_the_rules_hold_for_any_chat(old, new, query, previous, budget, entries):
    every = [passage(index, *message) for index, message in enumerate(old + new)]
    dropped, kept = every[: len(old)], every[len(old) :]
    follow = dict(zip(range(0, len(old), 3), range(2, len(old), 3), strict=False))
    retriever = Retriever(memo_entries=entries)

    def find(retriever: Retriever) -> list[Excerpt]:
        return retriever.find(
            dropped,
            kept,
            query,
            previous,
            budget=budget,
            follow=lambda index: [follow[index]] if index in follow else [],
        )

    found = find(retriever)
    assert sum(excerpt.tokens for excerpt in found) <= budget
    assert all(excerpt.text in excerpt.passage.text for excerpt in found)
    assert indices(found) == sorted(indices(found))
    assert all(excerpt.passage in dropped for excerpt in found)
    for index in {index for index in indices(found) if index in follow}:
        assert not every[follow[index]].text or follow[index] in indices(found)
    assert find(retriever) == found, "with a warm memo"
    assert find(Retriever()) == found, "with a fresh one"


class TestMemo:
    def test_it_is_bounded(self):
        retriever = Retriever(memo_entries=10)
        for index in range(100):
            retriever.find([passage(index, f"deposit {index}")], [], "deposit", budget=600)
        assert len(retriever._memo._entries) == 10

    def test_long_messages_take_more_of_it(self):
        retriever = Retriever(memo_entries=10)
        for index in range(100):
            text = " ".join(f"w{index}x{number}" for number in range(index_of_messages.ENTRY * 4))
            retriever.find([passage(index, text, 100)], [], "deposit", budget=600)
        assert len(retriever._memo._entries) == 2

    def test_a_message_is_indexed_once(self, monkeypatch):
        indexed = []

        def counted(text: str) -> list[str]:
            indexed.append(text)
            return terms(text)

        monkeypatch.setattr(index_of_messages, "terms", counted)
        retriever = Retriever()
        retriever.find(LEASE, [], "deposit", budget=600)
        assert indexed == [each.text for each in LEASE]
        retriever.find(LEASE, [], "deposit", budget=600)
        assert len(indexed) == len(LEASE)

    def test_of_a_very_long_message_it_holds_the_beginning(self, monkeypatch):
        monkeypatch.setattr(index_of_messages, "READ", 2_000)
        text = f"The deposit. {'It went on and on. ' * 200} The cello. "
        for query, is_found in (("deposit", True), ("cello", False)):
            found = Retriever().find([passage(0, text)], [], query, budget=600)
            assert bool(found) == is_found

    def test_what_was_used_last_stays(self):
        retriever = Retriever(memo_entries=2)
        one, two, three = passages("one", "two", "three")
        for message in (one, two, one, three):
            retriever.find([message], [], "deposit", budget=600)
        assert list(retriever._memo._entries) == [one.digest, three.digest]

    def test_another_count_of_tokens_is_another_message(self):
        retriever = Retriever(context=(), memo_entries=2)
        text = "The deposit. " + "It went on and on. " * 100
        for tokens in (300, 500, 300, 500, 300):
            (found,) = retriever.find([passage(0, text, tokens)], [], "deposit", budget=300)
            assert (found.text == text) == (tokens == 300)
        retriever.find([passage(1, "one")], [], "deposit", budget=300)
        assert len(retriever._memo._entries) == 2, "the former ones are gone"


def test_of_a_long_query_the_rarest_terms_count(monkeypatch):
    monkeypatch.setattr(retrieval, "QUERY_TERMS", 1)
    dropped = history(at_7="The cello.", at_20="The deposit.", at_22="A deposit.")
    found = Retriever(context=()).find(dropped, [], "the deposit on the cello", budget=600)
    assert indices(found) == [7]


def test_of_what_is_pasted_into_a_query_both_ends_count():
    pasted = "blah " * 10_000
    for query in (f"What was the deposit? {pasted}", f"{pasted} What was the deposit?"):
        assert 7 in indices(Retriever().find(LEASE, [], query, budget=600))


def test_the_order_of_a_set_decides_nothing():
    code = (
        "from plugins.compression.retrieval import Passage, Retriever\n"
        "chat = [Passage(i, i, 'user', f'red{i % 7} blue{i % 5} green{i % 3}', b'%d' % i, 9)"
        " for i in range(60)]\n"
        "query = ' '.join(f'red{i} blue{i} green{i}' for i in range(7))\n"
        "found = Retriever(gated=False).find(chat, [], query, budget=200)\n"
        "print([excerpt.passage.index for excerpt in found])"
    )
    answers = {
        subprocess.check_output(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
    assert b"[]" not in answers.pop()


@pytest.mark.parametrize(
    ("dropped", "kept", "query"),
    [
        ([], [], "deposit"),
        ([], [], ""),
        (LEASE, [], ""),
        (LEASE, LEASE, "deposit"),
        (passages("", "", ""), [], "deposit"),
        (passages("\ud800", "🙂", "\x00"), passages("\udfff"), "\ud800"),
    ],
)
def test_where_there_is_nothing_nothing_comes_back(dropped, kept, query):
    assert Retriever(gated=False).find(dropped, kept, query, budget=600) == []
    assert Retriever().find(dropped, kept, query, budget=600) == []


@pytest.mark.parametrize("budget", [0, -1])
def test_without_room_nothing_comes_back(budget):
    assert Retriever().find(LEASE, [], "deposit", budget=budget) == []


@pytest.mark.parametrize(
    "unit", ["blah ", "电影很好看。", "x", "\n", " \n", "a. ", "。”", "\ud800"]
)
def test_a_message_of_a_megabyte_is_read_in_bounded_time(unit):
    text = unit * (1_000_000 // len(unit))
    dropped = [passage(0, f"The deposit is due. {text}"), passage(1, text)]
    start = time.process_time()
    found = Retriever().find(dropped, [], f"deposit {text}", text, budget=600)
    assert time.process_time() - start < 4
    assert 0 in indices(found)


def test_680_messages_are_searched_in_milliseconds():
    dropped = passages(*(f"{SMALL_TALK[n % 40]} Number {n} of many words." for n in range(680)))
    retriever = Retriever()
    spent = []
    for number in range(20):
        start = time.process_time()
        assert retriever.find(dropped, [], f"What was number {number + 90} about?", budget=600)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.02  # it takes 1 ms: a margin for slow machines


# What the user says, what the assistant answers, what is asked long after; either may be the evidence.
ENGLISH = (
    ("I adopted a grey cat on Sunday.", "Lovely! What is her name?", "Which pet have I adopted?"),
    ("She's called Biscuit.", "A sweet name for a cat.", "What did we name Biscuit?"),
    ("We flew to Lisbon in May.", "How was the weather?", "When were we flying to Lisbon?"),
    ("My sister teaches chemistry.", "At a school?", "What subject is taught by my sister?"),
    ("Our server runs Debian 12.4.", "A stable choice.", "Which version of Debian runs there?"),
    ("Invoice INV-7781 is still unpaid.", "I'd send a reminder.", "What about INV-7781?"),
    ("How long does parental leave last?", "14 weeks, fully paid.", "How long is parental leave?"),
    ("I bought a cello from a neighbour.", "Do you play?", "What instrument did I buy?"),
    ("The flat has two balconies.", "Facing south?", "How many balconies are in the flat?"),
    ("What does the premium plan cost?", "19 dollars a month.", "Price of the premium plan?"),
    ("Write me at j.doe@example.org.", "Noted.", "Is it still j.doe@example.org for mail?"),
    ("I gave up coffee for migraines.", "Did it help?", "Why have I given up coffee?"),
    ("Dad broke his wrist skiing.", "Oh no, poor him.", "What bone did dad break?"),
    ("The wedding is in Tuscany.", "A vineyard?", "In what region is the wedding?"),
    ("We reserved a table for nine.", "At which place?", "How large was the reservation?"),
    ("My thesis covers coral reefs.", "Fascinating creatures.", "What is my thesis about?"),
)


def test_facts_of_an_english_chat_are_found():
    """Written by hand and never tuned on: English has no labelled data here."""
    talk = [text for said, answer, _ in ENGLISH for text in (said, answer, *SMALL_TALK[:2])]
    dropped = passages(*talk)
    budget = sum(message.tokens for message in dropped) // 8
    retriever = Retriever()
    found = [retriever.find(dropped, [], question, budget=budget) for _, _, question in ENGLISH]
    missed = [at for at, excerpts in enumerate(found) if 4 * at not in indices(excerpts)]
    assert missed == []


@pytest.fixture(scope="module")
def chat() -> recall.Chat:
    if not recall.KDCONV.exists():
        pytest.skip(f"dialogues are missing: {recall.KDCONV}")
    return asyncio.run(recall.chats(recall.samples(recall.KDCONV)[:50]))[0]


class TestRecall:
    """Held against labelled data, a sample of what `python -m benchmarks.recall` prints."""

    @pytest.mark.parametrize(("share", "least"), [(0.1, 0.65), (0.25, 0.82)])
    def test_chinese_facts_are_found(self, chat, share, least):
        sample = recall.Chat(chat.messages, chat.questions[::4])
        policy = recall.Policy("", 0.5, Retriever())
        results = recall.covered(sample, policy, share)
        assert sum(is_covered for is_covered, _ in results) >= least * len(results)

    async def test_locomo_is_read(self):
        turns = [
            {"speaker": "Ann", "dia_id": f"D1:{number}", "text": f"Thing {number}."}
            for number in range(1, 9)
        ]
        sample = {
            "conversation": {
                "speaker_a": "Ann",
                "session_1": turns,
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_2_date_time": "nothing was said",
            },
            "qa": [
                {"question": "What?", "evidence": ["D1:3; D:1:05", "D9:9"], "category": 1},
                {"question": "Never?", "evidence": ["D1:3"], "category": 5},
                {"question": "Unlabelled?", "evidence": [], "category": 2},
            ],
        }
        async with recall.loaded() as tokenizer:
            (chat,) = await recall.locomo([sample], tokenizer)
        assert chat.messages[0].text == "(1:56 pm on 8 May, 2023) Ann: Thing 1."
        assert [(q.text, q.evidence) for q in chat.questions] == [("What?", frozenset({2, 4}))]

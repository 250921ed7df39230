"""What survives a compaction, by two public test kits, through a real proxy.

What counts is all that the upstream gets to see beside the system message and the newest one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from compaction_kit.compacted import CompactedContext
from compaction_kit.corpus import build_random_session
from compaction_kit.generated import build_generated_session
from compaction_kit.runner import run_conformance

from plugins.compression.messages import text_of
from tests.unit.compression.chats import turn

if TYPE_CHECKING:
    from types import ModuleType

SEEDS = range(1, 13)
CHARACTERS = 4.6
"""Of a token, in these texts: the kit's budgets are characters, the plugin's tokens."""


class ThroughTheProxy:
    """A compactor of the kit: sends the session to a proxy, and reads what came out behind it."""

    name = "dragoman"

    def __init__(self, base_url: str, calls: list[Any]) -> None:
        self._client = openai.OpenAI(base_url=base_url, api_key="sk-kit", max_retries=0)
        self._calls = calls

    def compact(self, turns, round_num=1, budget_chars=None):
        messages: list[Any] = [{"role": turn.role, "content": turn.text} for turn in turns]
        question: Any = {"role": "user", "content": "Go on."}
        self._client.chat.completions.create(model="gpt-4o", messages=[*messages, question])
        sent = self._calls[-1].json["messages"][:-1]
        # From the second round on, all there is is one system message, which no plugin touches.
        seen = [m for m in sent if m["role"] != "system"] or sent
        return CompactedContext("\n".join(map(text_of, seen)), self.name, round_num)


def options(budget: float) -> str:
    """One extract of everything; orders may take a third of it."""
    tokens = budget / CHARACTERS - 22  # the frame
    return f"""
    [[plugins]]
    use = "compression"
    policy = "every_k"
    every = 1
    keep = 0
    segments = 1
    segment_tokens = {int(tokens * 0.75)}
    pin_tokens = {int(tokens * 0.25)}
    retrieval.enabled = false
    """


def characters(session) -> int:
    return len("\n".join(f"[{turn.role}] {turn.text}" for turn in session.transcript()))


@pytest.mark.parametrize(
    ("build", "fraction", "least"),
    [
        (build_random_session, 0.1, 0.40),
        (build_random_session, 0.2, 0.90),
        (build_random_session, 0.3, 0.99),
        (build_generated_session, 0.2, 0.60),
        (build_generated_session, 0.3, 0.98),
    ],
)
async def test_what_survives_at_a_budget(proxy, upstream, build, fraction, least):
    up = await upstream()
    sessions = []
    for seed in SEEDS:
        made = build(seed)
        sessions.append((made[0], made[1]))
    smallest = min(characters(session) for session, _ in sessions)
    running = await proxy(up.url, options(smallest * fraction))
    compactor = ThroughTheProxy(running.base_url, up.calls)
    survived = total = 0
    for session, canaries in sessions:
        run = await asyncio.to_thread(
            run_conformance, session, compactor, 5, canaries, budget_fraction=fraction
        )
        assert all(result.within_budget for result in run.rounds), run.rounds[0].output_chars
        survived += sum(run.rounds[-1].survived.values())
        total += len(canaries)
    assert survived / total >= least


# ---- COMPINT: an order, and a chat in which it is easily lost


def compint() -> ModuleType:
    """The constraints of the package, without the data frames that it would import."""
    package = importlib.util.find_spec("conpact")
    assert package is not None
    path = Path(str(package.submodule_search_locations[0]), "constraints.py")  # type: ignore[index]
    spec = importlib.util.spec_from_file_location("compint_constraints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def haystack(seed: int, turns: int = 60) -> list[Any]:
    """A chat of questions and answers that orders nothing."""
    draw = random.Random(seed)
    subjects = ["tides", "bread", "Rome", "violins", "volcanoes", "chess", "tea", "sleep", "maps"]
    messages = []
    for _ in range(turns):
        a, b = draw.sample(subjects, 2)
        messages += [
            {
                "role": "user",
                "content": f"What have {a} to do with {b}? " + f"I wonder about {a}. " * 6,
            },
            {
                "role": "assistant",
                "content": f"{a.title()} and {b} met in {draw.randint(900, 2000)}. " * 8,
            },
        ]
    return messages


@pytest.mark.parametrize("place", ["top", "middle"])
async def test_every_constraint_is_there_word_for_word_at_a_tenth_of_the_history(
    proxy, upstream, place
):
    up = await upstream()
    module = compint()
    budget = 0.1 * len("\n".join(m["content"] for m in haystack(0)))
    running = await proxy(up.url, options(budget))
    kept = total = 0
    async with running.client() as client:
        for seed, (strict, direct) in enumerate(
            [(a, b) for a in (False, True) for b in (False, True)]
        ):
            for constraint in module.SCS:
                messages = haystack(seed)
                at = 0 if place == "top" else len(messages) // 2
                order = module.render_sc(constraint["sc"], strict, direct)
                messages[at] = {"role": "user", "content": f"{order}\n{messages[at]['content']}"}
                probe = {"role": "user", "content": constraint["probe"]}
                await client.chat.completions.create(model="gpt-4o", messages=[*messages, probe])
                prompt = "\n".join(text_of(m) for m in up.calls[-1].json["messages"][:-1])
                assert len(prompt) <= budget
                kept += constraint["sc"].lower()[1:] in prompt.lower()
                total += 1
    assert kept / total >= 0.98


async def test_a_rule_from_message_eight_is_there_after_five_compactions(proxy, upstream):
    up = await upstream()
    running = await proxy(
        up.url, '[[plugins]]\nuse = "compression"\nhigh = 1_300\nlow = 500\nkeep = 1'
    )
    rule = "From now on, never write a number in digits."
    history: list[Any] = [m for n in range(4) for m in turn(n)][:-1]
    history += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": rule}]
    cuts = set()
    async with running.client() as client:
        for number in range(80):
            answer = await client.chat.completions.with_raw_response.create(
                model="gpt-4o", messages=history
            )
            cuts.add(answer.headers.get("x-dragoman-compression", "").partition(";saved")[0])
            history += [{"role": "assistant", "content": "Fine."}, turn(number)[0]]
    assert len(cuts) >= 6  # one of them is none
    assert str(up.calls[-1].json["messages"]).count(rule) == 1

"""How much of what a question asks about is still in the prompt: python -m benchmarks.recall.

Reads dialogues with labelled facts and asks for each of them at the end of a long chat, of which
the prompt has only a share of the tokens.  A question is covered if every message that is labelled
as its evidence is in the prompt.  Two formats are known:

KdConv (Zhou et al. 2020): dialogues, joined to chats of 20,000 tokens.  A question asks for what
the chat says of a thing and its attribute; the evidence are the messages that first name a value.
LoCoMo (Maharana et al. 2024): conversations of many sessions with questions and their evidence, of
the categories 1 to 4; in the fifth the answer is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from plugins.compression.retrieval import Passage, Retriever
from proxy.tokens import Tokenizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

KDCONV = Path(__file__).parents[1] / "../shared/data/dialogues/kdconv_film.json.gz"
MODEL = "gpt-4o"
CHAT = 20_000
MESSAGE = 4  # tokens around each message of a chat


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    evidence: frozenset[int]


@dataclass(frozen=True, slots=True)
class Chat:
    messages: list[Passage]
    questions: list[Question]


@dataclass(frozen=True, slots=True)
class Policy:
    """How the tokens that are left are used: for the newest messages, for what is found."""

    name: str
    window: float
    retriever: Retriever | None = None


POLICIES = (
    Policy("window only", 1),
    Policy("half window, half BM25", 0.5, Retriever(context=(), gated=False)),
    Policy("half window, half with neighbours", 0.5, Retriever(gated=False)),
    Policy("the same, behind the gate", 0.5, Retriever()),
    Policy("1/4 window, 3/4 with neighbours", 0.25, Retriever(gated=False)),
    Policy("no window, all with neighbours", 0, Retriever(gated=False)),
)


async def passage(tokenizer: Tokenizer, index: int, text: str) -> Passage:
    tokens = MESSAGE + await tokenizer.count_text(text, MODEL)
    role = ("user", "assistant")[index % 2]
    return Passage(index, index // 2 + 1, role, text, blake2b(text.encode()).digest(), tokens)


async def kdconv(dialogues: Sequence[dict[str, Any]], tokenizer: Tokenizer) -> list[Chat]:
    found, messages, labels = [], [], []
    for dialogue in dialogues:
        for message in dialogue["messages"]:
            messages.append(await passage(tokenizer, len(messages), message["message"]))
            labels.append(message.get("attrs", ()))
        if sum(message.tokens for message in messages) >= CHAT or dialogue is dialogues[-1]:
            found.append(Chat(messages, list(questions_about(messages, labels))))
            messages, labels = [], []
    return found


def questions_about(
    messages: Sequence[Passage], labels: Sequence[Sequence[Mapping[str, str]]]
) -> Iterator[Question]:
    evidence: dict[tuple[str, str], dict[str, int]] = {}
    for message, facts in zip(messages, labels, strict=True):
        for fact in facts:
            if fact["attrvalue"] in message.text and fact["attrname"] != "Information":
                values = evidence.setdefault((fact["name"], fact["attrname"]), {})
                values.setdefault(fact["attrvalue"], message.index)
    for (name, attribute), values in evidence.items():
        yield Question(f"{name}的{attribute}是什么？", frozenset(values.values()))


async def locomo(conversations: Sequence[dict[str, Any]], tokenizer: Tokenizer) -> list[Chat]:
    found = []
    for sample in conversations:
        messages: list[Passage] = []
        places: dict[tuple[int, int], int] = {}
        for name, text in turns(sample["conversation"]):
            places[name] = len(messages)
            messages.append(await passage(tokenizer, len(messages), text))
        questions = [
            Question(asked["question"], evidence)
            for asked in sample["qa"]
            if asked["category"] in {1, 2, 3, 4} and (evidence := evidence_of(asked, places))
        ]
        found.append(Chat(messages, questions))
    return found


def turns(conversation: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int], str]]:
    sessions = sorted(int(key[8:]) for key in conversation if re.fullmatch(r"session_\d+", key))
    for session in sessions:
        date = f"({conversation.get(f'session_{session}_date_time', '')}) "
        for turn in conversation[f"session_{session}"]:
            yield numbers(turn["dia_id"])[0], f"{date}{turn['speaker']}: {turn['text']}"
            date = ""


def numbers(text: str) -> list[tuple[int, int]]:
    """Session and turn of each reference: labels are sometimes written D:11:26 or D8:6; D9:17."""
    return [(int(a), int(b)) for a, b in re.findall(r"D:?(\d+):(\d+)", text)]


def evidence_of(asked: Mapping[str, Any], places: Mapping[tuple[int, int], int]) -> frozenset[int]:
    named = (number for label in asked["evidence"] for number in numbers(label))
    return frozenset(places[number] for number in named if number in places)


def covered(chat: Chat, policy: Policy, share: float) -> list[tuple[bool, int]]:
    """For each question whether its evidence is in the prompt, and the tokens of what was found."""
    budget = int(share * sum(message.tokens for message in chat.messages))
    start = window_start(chat.messages, budget * policy.window)
    dropped, kept = chat.messages[:start], chat.messages[start:]
    budget -= sum(message.tokens for message in kept)
    results = []
    for question in chat.questions:
        wanted = {index for index in question.evidence if index < start}
        found = (
            policy.retriever.find(dropped, kept, question.text, budget=budget)
            if policy.retriever
            else []
        )
        results.append(
            (
                wanted <= {excerpt.passage.index for excerpt in found},
                sum(excerpt.tokens for excerpt in found),
            )
        )
    return results


def window_start(messages: Sequence[Passage], budget: float) -> int:
    for message in reversed(messages):
        budget -= message.tokens
        if budget < 0:
            return message.index + 1
    return 0


@asynccontextmanager
async def loaded() -> AsyncIterator[Tokenizer]:
    tokenizer = Tokenizer()
    await tokenizer.load(MODEL)
    try:
        yield tokenizer
    finally:
        tokenizer.close()


def samples(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    found: list[dict[str, Any]] = msgspec.json.decode(
        gzip.decompress(data) if path.suffix == ".gz" else data
    )
    return found


async def chats(dialogues: Sequence[dict[str, Any]]) -> list[Chat]:
    async with loaded() as tokenizer:
        read = locomo if "conversation" in dialogues[0] else kdconv
        return await read(dialogues, tokenizer)


def row(name: str, *cells: str) -> None:
    print(f"| {name:34s} | " + " | ".join(f"{cell:>18s}" for cell in cells) + " |", flush=True)


def report(asked: Sequence[Chat], shares: Sequence[float]) -> None:
    questions = sum(len(chat.questions) for chat in asked)
    messages = sum(len(chat.messages) for chat in asked)
    print(f"{len(asked)} chats, {messages} messages, {questions} questions")
    print("questions whose evidence is in the prompt; tokens of excerpts, on average")
    row("share of the history", *(f"{share:.0%}" for share in shares))
    for policy in POLICIES:
        cells = []
        for share in shares:
            results = [result for chat in asked for result in covered(chat, policy, share)]
            coverage = sum(is_covered for is_covered, _ in results) / questions
            tokens = sum(tokens for _, tokens in results) / questions
            cells.append(f"{coverage:.1%}, {tokens:,.0f}")
        row(policy.name, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall")
    parser.add_argument("--data", type=Path, default=KDCONV, help="KdConv or LoCoMo, may be .gz")
    parser.add_argument(
        "--budgets",
        type=lambda text: [float(share) for share in text.split(",")],
        default=[0.1, 0.25],
        help="shares of the history's tokens",
    )
    options = parser.parse_args()
    report(asyncio.run(chats(samples(options.data))), options.budgets)


if __name__ == "__main__":
    main()

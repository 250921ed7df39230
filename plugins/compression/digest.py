"""A digest of dropped messages without a model: their most telling sentences, word for word.

Each sentence is scored by the facts in it (numbers, dates, names, identifiers, decisions, wishes)
and by how rare its words are in the segment, tf-idf (Sparck Jones 1972).  Sentences are taken by
score per token, the greedy rule for the knapsack problem (Dantzig 1957), and stand in their order.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from .candidates import WORDS, Candidate, Said, candidates_of, content_of, facts_of, words_of
from .pins import is_instruction
from .restated import current, elsewhere, without_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ["Said", "digest"]

_RARITY, _DECISION, _SELF, _INSTRUCTION, _FAILURE, _RETRACTION = 0.15, 0.7, 0.5, 1.0, 1.0, 9.0
"""What adds to a score, where a fact adds 1; half or twice as much changes little."""
_QUESTION = 0.5
"""What a question of the assistant is worth: the user's answer tells more."""
_ROLES = {"user": 1.0, "assistant": 0.5, "tool": 0.4}
"""What a model said it can say again; what a user said stands nowhere else."""
_DECISIONS = frozenset(WORDS["decisions"])
_CHINESE_DECISIONS = re.compile(
    "决定|同意|选择|选了|必须|一定|截止|预算|需要|想要|希望|喜欢|偏好|计划|目标|任务|下一步|目前|完成|失败|错误|因为|改成|改为|不再"
    "|过敏|地址|电话|名字|叫|负责|生日"
)
_SELVES = frozenset(WORDS["selves"])
_CHINESE_SELF = re.compile("我(?:的|是|叫|有|在|住|喜欢|们)")
_ROUNDS = 4
_PATIENCE = 40
"""After so many sentences that did not fit, the others will not either."""


def digest(
    segment: Sequence[Said],
    *,
    tokens: Callable[[str], int],
    budget: int,
    without: Collection[str] = (),
) -> str:
    """What matters most of `segment`, in its order, in at most `budget` tokens.

    A line holds the sentences of one message behind the initial of its role and its turn: "u12 ".
    Of two statements of one shape the later one counts; what the user took back is left out, and
    the sentence that takes it back stands in its place; `without` stands elsewhere already.
    """
    if budget <= 0:
        return ""
    candidates = current(candidates_of(segment), segment)
    candidates = _scored(without_labels(elsewhere(candidates, without)), segment)
    taken: set[int] = set()
    free = budget
    for _ in range(_ROUNDS):  # a text costs less than its sentences one by one
        more = _taken(candidates, segment, tokens, free, taken)
        taken |= more
        free = budget - tokens(_rendered(candidates, taken, segment))
        if not more or free <= 0:
            break
    while taken and free < 0:
        taken.remove(min(taken, key=lambda number: candidates[number].score))
        free = budget - tokens(_rendered(candidates, taken, segment))
    return _rendered(candidates, taken, segment)


def _scored(candidates: Sequence[Candidate], segment: Sequence[Said]) -> list[Candidate]:
    contents = [content_of(candidate.text) for candidate in candidates]
    messages: dict[str, set[int]] = defaultdict(set)
    for candidate, content in zip(candidates, contents, strict=True):
        for word in content:
            messages[word].add(candidate.message)
    count = len(segment) + 1
    rarity = {
        word: math.log(count / len(found)) / math.log(count) for word, found in messages.items()
    }
    return [
        replace(
            candidate,
            score=_score(
                candidate, segment[candidate.message], sum(map(rarity.__getitem__, content))
            ),
        )
        for candidate, content in zip(candidates, contents, strict=True)
    ]


def _score(candidate: Candidate, said: Said, rarity: float) -> float:
    text = candidate.text
    words = set(words_of(text))
    decisions = len(words & _DECISIONS)
    is_own = not words.isdisjoint(_SELVES)
    if not text.isascii():
        decisions += len(set(_CHINESE_DECISIONS.findall(text)))
        is_own = is_own or bool(_CHINESE_SELF.search(text))
    score = _RARITY * rarity + len(facts_of(text)) + _DECISION * decisions
    if candidate.label:
        score += _FAILURE
    elif said.role != "user" and text.endswith(("?", "\uff1f")):
        score *= _QUESTION
    if said.role == "user":
        score += _SELF * is_own + _INSTRUCTION * is_instruction(text)
        score += _RETRACTION * candidate.takes_back
    return score * _ROLES.get(said.role, _ROLES["assistant"])


def _taken(
    candidates: Sequence[Candidate],
    segment: Sequence[Said],
    tokens: Callable[[str], int],
    budget: int,
    before: Collection[int],
) -> set[int]:
    """The numbers of the best by score per length that fit, besides those taken `before`.

    A sentence whose message has one already needs no head of its own and moves up.  Tokens are
    counted only for what may fit: most sentences never come up.
    """
    begun = {candidates[number].message for number in before}
    heads = ["" if index in begun else _head(said) for index, said in enumerate(segment)]
    by_message: dict[int, list[int]] = defaultdict(list)
    for number, candidate in enumerate(candidates):
        by_message[candidate.message].append(number)
    queue = [
        (-candidate.score / (_weight(candidate.text) + _weight(heads[candidate.message])), number)
        for number, candidate in enumerate(candidates)
    ]
    heapq.heapify(queue)
    met: set[int] = set(before)
    taken: set[int] = set()
    while queue and len(met) - len(before) - len(taken) <= _PATIENCE:
        number = heapq.heappop(queue)[1]
        if number in met or candidates[number].score <= 0:
            continue
        met.add(number)
        candidate = candidates[number]
        head, heads[candidate.message] = heads[candidate.message], ""
        cost = tokens(f"{head}{candidate.label}{candidate.text}") + 1
        if cost > budget:
            heads[candidate.message] = head
            continue
        budget -= cost
        taken.add(number)
        if head:
            for other in by_message[candidate.message]:
                rank = -candidates[other].score / (_weight(candidates[other].text) + 1)
                heapq.heappush(queue, (rank, other))
    return taken


def _weight(text: str) -> float:
    """About the tokens of `text`: a fourth of a letter's, four fifths of a Chinese character's."""
    letters = len(text) if text.isascii() else sum(character < "\u3000" for character in text)
    return letters / 4 + 0.8 * (len(text) - letters)


def _rendered(
    candidates: Sequence[Candidate], taken: Iterable[int], segment: Sequence[Said]
) -> str:
    lines: dict[int, str] = {}
    for candidate in map(candidates.__getitem__, sorted(taken)):
        head = lines.get(candidate.message) or _head(segment[candidate.message]).rstrip()
        text = " ".join(candidate.text.split())
        lines[candidate.message] = f"{head} {candidate.label}{text}"
    return "\n".join(lines.values())


def _head(said: Said) -> str:
    return f"{said.role[:1]}{said.turn} "

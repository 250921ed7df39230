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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from .pins import is_instruction
from .retraction import retracts
from .sentences import rules, sentences, shape, typed, unlabelled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

_Statement: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""What `shape` tells of a sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a segment."""

    turn: int
    role: str
    text: str
    tokens: int
    calls: tuple[str, ...] = ()
    """Names of tool calls."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    message: int
    """Index of its message in the segment."""
    text: str
    label: str = ""
    meaning: _Statement | None = None
    takes_back: bool = False
    score: float = 0.0


_READ = 8_000
"""Characters of a message, half from its beginning and half from its end."""
_LONGEST = 240
"""A sentence above so many characters is taken in clauses."""
_SHORTEST_CLAUSE = 24
_TOOL_LINES = 2
_TOOL_LINE = 160
"""Of a tool's output so many lines count, cut at so many characters."""
_RARITY, _DECISION, _SELF, _INSTRUCTION, _FAILURE, _RETRACTION = 0.15, 0.7, 0.5, 1.0, 1.0, 9.0
"""What adds to a score, where a fact adds 1; half or twice as much changes little."""
_QUESTION = 0.5
"""What a question of the assistant is worth: the user's answer tells more."""
_ROLES = {"user": 1.0, "assistant": 0.5, "tool": 0.4}
"""What a model said it can say again; what a user said stands nowhere else."""

_WORDS = rules("words")
_FACTS = re.compile(
    r"""
      [$\u20ac\u00a3\u00a5\uffe5]?\d[\w.,:%/-]*                # amounts, dates, versions, hours
    | \b[A-Z][a-z]*[A-Z0-9][\w/-]*                             # CODES and CamelCase
    | \b[A-Za-z]\w*(?:://|[/_@.\\-](?=\w))\w[^\s,;)"]*         # addresses, paths, hosts, names in code
    | (?<=[a-z,;:)]\s)[A-Z][a-z'-]+(?:\s[A-Z][a-z'-]+)*        # names, behind another word
    | `[^`\n]{1,60}` | "[^"\n]{2,60}" | \u201c[^\u201d\n]{1,60}\u201d | \u300a[^\u300b\n]{1,40}\u300b
    | [一二三四五六七八九十百千万两]+[元块年月日号点个天周岁人次]
    """,
    re.VERBOSE | re.ASCII,
)
_DECISIONS = frozenset(_WORDS["decisions"])
_CHINESE_DECISIONS = re.compile(
    "决定|同意|选择|选了|必须|一定|截止|预算|需要|想要|希望|喜欢|偏好|计划|目标|任务|下一步|目前|完成|失败|错误|因为|改成|改为|不再"
    "|过敏|地址|电话|名字|叫|负责|生日"
)
_SELVES = frozenset(_WORDS["selves"])
_CHINESE_SELF = re.compile("我(?:的|是|叫|有|在|住|喜欢|们)")
_FILLER = re.compile("|".join(_WORDS["filler"]))
_ERROR = re.compile(
    r"\b(?:\w*error|\w*exception|traceback|failed|failure|fatal|denied|refused|not\s+found|timed?\s?out|panic"
    r"|exit\s+code\s+[1-9])\b|错误|失败|异常|超时",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[;；，、]|,(?=\s)")
_TOPIC = re.compile(r"\babout\s+([^.,!;]{2,60})|关于([^。，,！]{1,20})的")
_CHINESE_UPDATES = re.compile("改成|改为|更新|现在|不再|换成|调整")
_UPDATING = frozenset(_WORDS["updating"])
_ALIKE = 0.75
"""The share of the words of the shorter statement that an update has in common with it."""
_RECURRING = 3
"""So many labels in capitals are a habit of the writer."""
_ROUNDS = 4
_PATIENCE = 40
"""After so many sentences that did not fit, the others will not either."""

_WORD = re.compile(r"[A-Za-z0-9_'-]{2,}|[\u3400-\u9fff]{2}")
_STOP = frozenset(_WORDS["stop"])


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
    candidates = _current(_candidates(segment), segment)
    candidates = _scored(_unlabelled(_elsewhere(candidates, without)), segment)
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


def _candidates(segment: Sequence[Said]) -> list[_Candidate]:
    retractions = {
        index: retraction
        for index, said in enumerate(segment)
        if said.role == "user" and (retraction := retracts(said.text))
    }
    forgotten, taken_back = _taken_back(segment, retractions)
    return [
        _Candidate(
            index,
            text,
            label,
            meaning=None if label else shape(text),
            takes_back=text == retractions.get(index),
        )
        for index, said in enumerate(segment)
        if index not in forgotten
        for label, text in _extracts(said)
        if (index, text) not in taken_back
    ]


def _elsewhere(candidates: Sequence[_Candidate], without: Collection[str]) -> list[_Candidate]:
    """The candidates that `without` neither holds nor gives with other values."""
    plain = {_plain(text) for text in without}
    shapes = {meaning[0] for text in without if (meaning := shape(text))}
    return [
        candidate
        for candidate in candidates
        if not _is_in(_plain(candidate.text), plain)
        and not (candidate.meaning and candidate.meaning[0] in shapes)
    ]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_in(plain: str, others: Collection[str]) -> bool:
    return plain in others or (
        len(plain) >= _SHORTEST_CLAUSE and any(plain in other for other in others)
    )


def _unlabelled(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Without labels in capitals, where many have one: what is said everywhere tells nothing."""
    bare = [unlabelled(candidate.text) for candidate in candidates]
    labels = sum(
        len(text) < len(candidate.text) for candidate, text in zip(candidates, bare, strict=True)
    )
    if labels < _RECURRING:
        return list(candidates)
    return [replace(candidate, text=text) for candidate, text in zip(candidates, bare, strict=True)]


def _taken_back(
    segment: Sequence[Said], retractions: Mapping[int, str]
) -> tuple[set[int], set[tuple[int, str]]]:
    """The messages, and the single sentences, that the user takes back later."""
    forgotten: set[int] = set()
    single: set[tuple[int, str]] = set()
    asked: list[int] = []
    for index, said in enumerate(segment):
        if said.role != "user":
            continue
        if retraction := retractions.get(index):
            about = _before(retraction, said, index) or _on_its_topic(retraction, segment, asked)
            single |= about
            if asked and not about:
                forgotten.add(asked[-1])
        asked.append(index)
    return forgotten, single


def _before(retraction: str, said: Said, index: int) -> set[tuple[int, str]]:
    """What stands before it in its own message."""
    texts = [text for _, text in _extracts(said)]
    return (
        {(index, text) for text in texts[: texts.index(retraction)]}
        if retraction in texts
        else set()
    )


def _on_its_topic(
    retraction: str, segment: Sequence[Said], asked: Iterable[int]
) -> set[tuple[int, str]]:
    """For "forget what I said about the budget": what was said about it."""
    topic = _TOPIC.search(retraction)
    words = set(_content(topic[1] or topic[2])) if topic else set()
    if not words:
        return set()
    return {
        (index, text)
        for index in asked
        for _, text in _extracts(segment[index])
        if words <= set(_content(text))
    }


def _extracts(said: Said) -> Iterator[tuple[str, str]]:
    """What may be taken from a message: a label and a text each."""
    text = _bounded(said.text)
    if said.role == "tool":
        yield from _lines_of_output(text)
        return
    shown = typed(text)
    for sentence in sentences(shown):
        for clause in _clauses(sentence):
            if not _FILLER.fullmatch(clause.lower()):
                yield "", clause
    if shown != text and said.role == "user":
        yield from (line for line in _lines_of_output(text) if line[0])
    if said.calls:
        yield "", f"[{', '.join(said.calls)}]"


def _bounded(text: str) -> str:
    if len(text) <= _READ:
        return text
    return f"{text[: _READ // 2]}\n\n{text[-_READ // 2 :]}"


def _clauses(sentence: str) -> Iterator[str]:
    """A long sentence in clauses that are about half as long as one may be."""
    begin = end = 0
    if len(sentence) > _LONGEST:
        for match in _CLAUSE_END.finditer(sentence):
            if match.end() - begin > _LONGEST // 2 and end > begin:
                yield sentence[begin:end].strip()
                begin = end
            end = match.end()
    if len(sentence) - begin <= _LONGEST:
        yield sentence[begin:].strip()


def _lines_of_output(text: str) -> Iterator[tuple[str, str]]:
    """Of a tool's output the lines that tell of an error, else those with the most facts."""
    lines = list(dict.fromkeys(line.strip()[:_TOOL_LINE] for line in text.splitlines()))
    errors = [line for line in lines if _ERROR.search(line)][-_TOOL_LINES:]
    if errors:
        yield from (("error: ", line) for line in errors)
        return
    telling = sorted(range(len(lines)), key=lambda number: -len(_facts(lines[number])))
    yield from (("", lines[number]) for number in sorted(telling[:_TOOL_LINES]) if lines[number])


def _current(candidates: Sequence[_Candidate], segment: Sequence[Said]) -> list[_Candidate]:
    """Without what is said again, and what was said with values that no longer hold."""
    newest: dict[object, int] = {}
    stale: set[int] = set()
    stated: dict[int, _Statement] = {}
    for number, candidate in enumerate(candidates):
        is_user = segment[candidate.message].role == "user"
        meaning = candidate.meaning
        key: object = meaning[0] if meaning else _plain(candidate.text)
        earlier = newest.get(key)
        if earlier is None and meaning and is_user and _is_update(candidate.text):
            earlier = _restated(meaning, stated)
        if (
            earlier is not None
            and not is_user
            and segment[candidates[earlier].message].role == "user"
        ):
            stale.add(number)  # the assistant repeats the user
            continue
        if earlier is not None:
            stale.add(earlier)
            stated.pop(earlier, None)
        newest[key] = number
        if meaning and is_user:
            stated[number] = meaning
    return [candidate for number, candidate in enumerate(candidates) if number not in stale]


def _is_update(text: str) -> bool:
    return not _UPDATING.isdisjoint(_words(text)) or bool(_CHINESE_UPDATES.search(text))


def _restated(meaning: _Statement, stated: Mapping[int, _Statement]) -> int | None:
    """The statement that an update replaces: about the same things, with values of a kind."""
    about, kinds = _about(meaning)
    best, likeness = None, 0.0
    for number, other in stated.items():
        others, their_kinds = _about(other)
        common = len(about & others)
        if kinds & their_kinds and common and common >= _ALIKE * min(len(about), len(others)):
            union = common / len(about | others)
            if union >= likeness:
                best, likeness = number, union
    return best


def _about(meaning: _Statement) -> tuple[set[str], set[str]]:
    words = set(meaning[0])
    kinds = {word for word in words if word.startswith("<")}
    return set(_content(" ".join(words - kinds))) - _UPDATING, kinds


def _scored(candidates: Sequence[_Candidate], segment: Sequence[Said]) -> list[_Candidate]:
    contents = [_content(candidate.text) for candidate in candidates]
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


def _score(candidate: _Candidate, said: Said, rarity: float) -> float:
    text = candidate.text
    words = set(_words(text))
    decisions = len(words & _DECISIONS)
    is_own = not words.isdisjoint(_SELVES)
    if not text.isascii():
        decisions += len(set(_CHINESE_DECISIONS.findall(text)))
        is_own = is_own or bool(_CHINESE_SELF.search(text))
    score = _RARITY * rarity + len(_facts(text)) + _DECISION * decisions
    if candidate.label:
        score += _FAILURE
    elif said.role != "user" and text.endswith(("?", "\uff1f")):
        score *= _QUESTION
    if said.role == "user":
        score += _SELF * is_own + _INSTRUCTION * is_instruction(text)
        score += _RETRACTION * candidate.takes_back
    return score * _ROLES.get(said.role, _ROLES["assistant"])


def _facts(text: str) -> set[str]:
    return {fact.lower() for fact in _FACTS.findall(text)}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _content(text: str) -> list[str]:
    return [word for word in dict.fromkeys(_words(text)) if word not in _STOP]


def _taken(
    candidates: Sequence[_Candidate],
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
    candidates: Sequence[_Candidate], taken: Iterable[int], segment: Sequence[Said]
) -> str:
    lines: dict[int, str] = {}
    for candidate in map(candidates.__getitem__, sorted(taken)):
        head = lines.get(candidate.message) or _head(segment[candidate.message]).rstrip()
        text = " ".join(candidate.text.split())
        lines[candidate.message] = f"{head} {candidate.label}{text}"
    return "\n".join(lines.values())


def _head(said: Said) -> str:
    return f"{said.role[:1]}{said.turn} "

"""The FAQ file: questions with the operator's answers, and all that is wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import jiter
from pydantic import Field, ValidationError

from proxy.plugin import Moment, Options

from . import reviewed
from .normal import LONGEST
from .question import Question

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from proxy.plugin import ChatRequest

    from .reviewed import Verdict

MAX_FILE = 20_000_000
SYSTEM_CHARACTERS = 4_000
"""Of the system prompt, that a pattern is searched in."""


class FaqError(ValueError):
    """The FAQ file cannot be used.  A problem is one line: which entry, and what is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


Text = Annotated[str, Field(min_length=1)]
Phrase = Annotated[str, Field(min_length=1, max_length=LONGEST)]


class Scope(Options):
    """Which requests an entry answers."""

    models: tuple[Text, ...] = ()
    callers: tuple[Text, ...] = ()
    system: re.Pattern[str] | None = None


class Entry(Options):
    """One question with its answer."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    question: Phrase
    aliases: tuple[Phrase, ...] = ()
    answer: Text | Annotated[dict[Text, Text], Field(min_length=1)]
    negatives: tuple[Phrase, ...] = ()
    must: tuple[Text, ...] = ()
    must_not: tuple[Text, ...] = ()
    scope: Scope = Scope()
    valid_until: Moment | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    cosine: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def phrases(self) -> tuple[str, ...]:
        return (self.question, *self.aliases)

    def expired(self, now: datetime) -> bool:
        return self.valid_until is not None and self.valid_until <= now


@dataclass(frozen=True, slots=True)
class Faq:
    """A FAQ file that can be used."""

    entries: tuple[Entry, ...]
    antonyms: tuple[tuple[str, str], ...] = ()


class _File(Options):
    faq: tuple[Any, ...]
    antonyms: tuple[tuple[Text, Text], ...] = ()


def load(path: Path, more: Iterable[Verdict] = ()) -> Faq:
    """Read and check a FAQ file, with the verdicts beside it and these.  FaqError with all that is
    wrong."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise FaqError([f"{path}: is longer than {MAX_FILE // 1_000_000} MB"])
        return check(_decode(path), str(path), [*_verdicts(path), *more])
    except OSError as error:
        raise FaqError([f"{path}: {(error.strerror or str(error)).lower()}"]) from None


def _verdicts(path: Path) -> list[Verdict]:
    try:
        return reviewed.read(path)
    except ValueError as error:
        raise FaqError([str(error)]) from None


def _decode(path: Path) -> Any:
    data = path.read_bytes()
    try:
        if path.suffix == ".toml":
            return tomllib.loads(data.decode())
        if path.suffix == ".json":
            return jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except (ValueError, RecursionError) as error:
        raise FaqError([f"{path}: {error}"]) from None
    if path.suffix not in (".yaml", ".yml"):
        raise FaqError([f"{path}: should end in .toml, .json or .yaml"])
    return _yaml(data, path)


def _yaml(data: bytes, path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise FaqError(
            [f"{path}: YAML needs the package pyyaml; TOML and JSON need none"]
        ) from None
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FaqError([f"{path}: {' '.join(str(error).split())}"]) from None


def check(content: Any, name: str = "faq", verdicts: Iterable[Verdict] = ()) -> Faq:
    """A decoded file as entries, with what was accepted and rejected since.  FaqError with
    everything that is wrong with it."""
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise FaqError([f"{name}: {each}" for each in _mistakes(error)]) from None
    problems: list[str] = []
    entries = []
    for number, raw in enumerate(file.faq, 1):
        try:
            entries.append(Entry.model_validate(raw))
        except ValidationError as error:
            label = _label(raw, number)
            problems += [f"{name}: {label}: {each}" for each in _mistakes(error)]
    entries = [_judged(entry, verdicts) for entry in entries]
    problems += [f"{name}: {each}" for each in _conflicts(entries)]
    if problems:
        raise FaqError(problems)
    return Faq(tuple(entries), file.antonyms)


def _judged(entry: Entry, verdicts: Iterable[Verdict]) -> Entry:
    """The entry with the verdicts on it; what the file itself says of a question stands."""
    said = {Question(phrase).normal for phrase in (*entry.phrases, *entry.negatives)}
    on_this = {each.normal: each for each in verdicts if each.entry == entry.id}
    new = [each for normal, each in on_this.items() if normal not in said]
    if not new:
        return entry
    aliases = (*entry.aliases, *(each.question for each in new if each.accepted))
    negatives = (*entry.negatives, *(each.question for each in new if not each.accepted))
    return entry.model_copy(update={"aliases": aliases, "negatives": negatives})


def _label(raw: Any, number: int) -> str:
    named = raw.get("id") if isinstance(raw, Mapping) else None
    return f"entry {named!r:.80}" if isinstance(named, str) else f"entry number {number}"


def _mistakes(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        kind_of_union = ("constrained-str", "dict", "function")
        parts = [str(p) for p in detail["loc"] if not str(p).startswith(kind_of_union)]
        place = ".".join(parts)
        yield f"{place}: {detail['msg']}" if place else detail["msg"]


# ---- what the entries are to each other


def _conflicts(entries: list[Entry]) -> Iterator[str]:
    """What makes a question ambiguous, or keeps an entry from ever answering."""
    now = datetime.now(UTC)
    seen: dict[str, Entry] = {}
    asked: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
    for entry in entries:
        if seen.setdefault(entry.id, entry) is not entry:
            yield f"entry {entry.id!r}: there is another entry of this id"
        yield from _contradictions(entry)
        for phrase in dict.fromkeys(entry.phrases):
            if not entry.expired(now):
                asked[Question(phrase).normal].append((entry, phrase))
    for same in asked.values():
        for number, (entry, phrase) in enumerate(same):
            for other, other_phrase in same[:number]:
                if other is not entry and overlap(other.scope, entry.scope):
                    yield (
                        f"entries {other.id!r} and {entry.id!r} are asked the same: "
                        f"{other_phrase!r} and {phrase!r}"
                    )


def _contradictions(entry: Entry) -> Iterator[str]:
    negatives = {Question(negative).normal: negative for negative in entry.negatives}
    for phrase in entry.phrases:
        question = Question(phrase)
        if not question.tokens:
            yield f"entry {entry.id!r}: {phrase!r} has no words"
        if question.normal in negatives:
            yield f"entry {entry.id!r}: {phrase!r} is among its negatives, too"
        if (word := missing(entry, question)) is not None:
            yield f"entry {entry.id!r}: {phrase!r} lacks {word!r}, which must be there"
        if (word := unwanted(entry, question)) is not None:
            yield f"entry {entry.id!r}: {phrase!r} has {word!r}, which must not be there"


def missing(entry: Entry, question: Question) -> str | None:
    """A word that must be in a question, and is not in this one."""
    return next((word for word in entry.must if not question.has(word)), None)


def unwanted(entry: Entry, question: Question) -> str | None:
    """A word that must not be in a question, and is in this one."""
    return next((word for word in entry.must_not if question.has(word)), None)


def overlap(one: Scope, other: Scope) -> bool:
    """May a request be in both scopes?  Patterns of system prompts differ if they are not equal."""
    if one.system is not None and other.system is not None and one.system != other.system:
        return False
    return all(
        not a or not b or any(_may_meet(x, y) for x in a for y in b)
        for a, b in ((one.models, other.models), (one.callers, other.callers))
    )


def _may_meet(one: str, other: str) -> bool:
    """May a name fit both patterns?  Anybody may be in any group."""
    if one.startswith("group:") or other.startswith("group:"):
        return True
    before, after = re.split(r"[*?\[]", one, maxsplit=1), re.split(r"[*?\[]", other, maxsplit=1)
    if len(before) == len(after) == 1:
        return one == other
    shorter = min(len(before[0]), len(after[0]))
    if len(before) == 2 and len(after) == 2:
        return before[0][:shorter] == after[0][:shorter]
    pattern, name = (one, other) if len(before) == 2 else (other, one)
    return fnmatchcase(name, pattern)


def in_scope(scope: Scope, request: ChatRequest, system: str) -> bool:
    """Is this one of the requests that an entry answers?"""
    return (
        (not scope.models or any(fnmatchcase(request.model, glob) for glob in scope.models))
        and request.caller.fits(scope.callers)
        and (scope.system is None or bool(scope.system.search(system[:SYSTEM_CHARACTERS])))
    )

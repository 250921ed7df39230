"""Where a request and an answer hold text that somebody reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .verdicts import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .verdicts import Span

Path: TypeAlias = tuple[str | int, ...]

NAME: Final[Path] = ("name",)
TOOLS = ("tool_calls", "function_call")
# Keys whose values nobody reads.  All other text counts, whatever a server calls it.
STRUCTURE = frozenset(
    "role id type index name format detail signature url data file_data encrypted_content".split()
)

# What stands in a choice beside what it says.
ASIDE = frozenset(
    "index finish_reason native_finish_reason stop_reason logprobs content_filter_results".split()
)


def turn(messages: Sequence[Any], *, everything: bool) -> Iterator[int]:
    """Which messages to check: those of users and tools after the last answer, or all of them.

    An answer at the very end is the client's own words, for the model to go on with.
    """
    end = len(messages)
    while end and _role(messages[end - 1]) == "assistant":
        end -= 1
    start = end
    while start and _role(messages[start - 1]) != "assistant":
        start -= 1
    for index in range(0 if everything else start, len(messages)):
        role = _role(messages[index])
        if index >= end or role not in ("system", "developer", "assistant"):
            yield index


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in a message or delta, and its place.  Entries of a list that have an index of
    their own are named by it, so that the pieces of one text come under one name."""
    if isinstance(value, (dict, Mapping)):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = _entries(value)
    else:
        return
    for key, inner in items:
        if isinstance(inner, str):
            if inner and key not in STRUCTURE:
                yield (*path, key), inner
        elif inner is not None:
            yield from texts(inner, (*path, key))


def spoken(message: Any) -> Iterator[tuple[Path, str]]:
    """Every text of a message, and the name that its author gives himself: the model reads it, too."""
    yield from texts(message)
    name = message.get("name") if isinstance(message, Mapping) else None
    if isinstance(name, str) and name and _role(message) not in ("tool", "function"):
        yield NAME, name


def images(message: Any) -> Iterator[str]:
    """The URL of each image in a message."""
    content = message.get("content") if isinstance(message, Mapping) else None
    for part in content if isinstance(content, list) else ():
        image = part.get("image_url") if isinstance(part, Mapping) else None
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str):
            yield url


def _entries(entries: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    for place, entry in enumerate(entries):
        index = entry.get("index") if isinstance(entry, Mapping) else None
        yield index if isinstance(index, int) else place, entry


def mapped(value: Any, change: Callable[[Path, str], str], path: Path = ()) -> Any:
    """A copy with each string changed."""
    if isinstance(value, str):
        return change(path, value) if value else value
    if isinstance(value, Mapping):
        return {key: mapped(inner, change, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [mapped(entry, change, (*path, key)) for key, entry in _entries(value)]
    return value


def masked(value: Any, spans: Mapping[Path, Sequence[Span]]) -> Any:
    """A copy with asterisks at these places of these texts."""
    return mapped(value, lambda path, text: mask(text, spans.get(path, ())))


LONGEST, OVERLAP = 8_000, 200
"""Characters that are judged at once, and how many of them are those at the end of the piece before."""


def slices(text: str, longest: int = LONGEST, overlap: int = OVERLAP) -> Iterator[tuple[int, str]]:
    """The text in pieces that overlap, none of them too long, and where each begins."""
    for start in range(0, max(1, len(text) - overlap), longest - overlap):
        yield start, text[start : start + longest]

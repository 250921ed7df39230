"""One compaction: from a chat and its cuts to the messages that are sent, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

from . import layout, prefix
from .extracts import Extracts, said, weigher
from .instructions import Instructions
from .messages import digest_of, role_of, text_of
from .plan import segments
from .retrieval import Passage, Retriever

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .digest import Said
    from .history import History
    from .messages import Message
    from .options import CompressionOptions
    from .pins import Pin
    from .plan import Policy, Segment


@dataclass(frozen=True, slots=True)
class Remembered:
    """A segment that the prompt needs a text for."""

    key: str
    segment: Segment
    text: str | None = None
    """A summary or an extract that is in use already."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a chat is cut, with the hash of all that is cut off, and what stands for it."""

    index: int
    link: bytes
    needed: Sequence[Remembered] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory block of a prompt, and what went into it."""

    text: str
    pins: int
    extracts: Mapping[str, str]
    """Made for want of a summary, by the keys of their segments."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What became of a chat, and why."""

    messages: list[Message]
    cut: int
    pieces: int
    memory: Memory
    excerpts: int


class Compactor:
    """Makes compactions.  What it reads in a message or a segment it reads once."""

    def __init__(self, options: CompressionOptions, low: int, secret: bytes) -> None:
        self._options = options
        self._pin_tokens = options.pin_tokens or max(1, low // 10)
        self._secret = secret
        self._instructions = Instructions()
        self._extracts = Extracts()
        self._retriever = Retriever()
        self._memories: LRUCache[tuple[object, ...], Memory] = LRUCache(1_024)
        """They are the same from one cut to the next."""

    def digests(self, history: History) -> dict[int, bytes]:
        """The digest of each message behind the head, by its index."""
        return {
            index: digest_of(history.messages[index])
            for index in range(history.head, len(history.messages))
        }

    def cut(
        self,
        history: History,
        policy: Policy,
        cuts: Sequence[int],
        owner: str,
        digests: Mapping[int, bytes],
    ) -> Cut:
        """The last one of the cuts, with the keys of the texts that stand for what it leaves out."""
        links = prefix.chain(
            self._secret,
            f"{owner}|{self._options.fingerprint()}",
            (digests[index] for index in range(history.head, cuts[-1])),
        )
        needed = [
            Remembered(
                prefix.segment_key(links[start - history.head], links[end - history.head]),
                (start, end),
            )
            for start, end in segments(history.head, cuts, policy.most)
        ]
        return Cut(cuts[-1], links[-1], needed)

    def chat_key(self, history: History, owner: str) -> str:
        """The name of this chat for the upstream's prompt cache."""
        first = digest_of(history.messages[history.head])
        return prefix.chat_key(self._secret, owner, first)

    def said(self, history: History, segment: Segment) -> list[Said]:
        return said(history, segment)

    def compact(
        self,
        history: History,
        cut: Cut,
        digests: Mapping[int, bytes],
        budget: int,
        *,
        retrieves: bool = True,
    ) -> Compaction:
        """Replace what stands before the cut by what is remembered of it, an extract of at most
        `budget` tokens where a segment has no text yet; and retrieve what is asked about."""
        name = (cut.link, budget, *(item.text for item in cut.needed))
        memory = self._memories.get(name)
        if memory is None:
            memory = self._memories[name] = self._memory(history, cut, digests, budget)
        found = self._excerpts(history, cut.index, digests) if retrieves else []
        return Compaction(
            layout.assemble(history, cut.index, memory.text, layout.excerpts(found)),
            cut.index,
            len(cut.needed),
            memory,
            len(found),
        )

    def _memory(
        self, history: History, cut: Cut, digests: Mapping[int, bytes], budget: int
    ) -> Memory:
        orders = self._orders(history, cut.index, digests)
        made: dict[str, str] = {}
        texts = []
        for item in cut.needed:
            text = item.text
            if text is None:
                text = made[item.key] = self._extract(history, item, orders, budget)
            texts.append(text)
        block = layout.memory([(pin.turn, pin.text) for pin in orders], texts)
        return Memory(block, len(orders), made)

    def _orders(self, history: History, cut: int, digests: Mapping[int, bytes]) -> list[Pin]:
        if not self._options.pins:
            return []
        tokens = weigher(history, history.head, cut)
        return self._instructions.standing(
            history, cut, digests, tokens=tokens, budget=self._pin_tokens
        )

    def _extract(
        self, history: History, item: Remembered, orders: Sequence[Pin], budget: int
    ) -> str:
        return self._extracts.of(
            item.key,
            said(history, item.segment),
            tokens=weigher(history, *item.segment),
            budget=budget,
            without={pin.text for pin in orders},
        )

    def _excerpts(
        self, history: History, cut: int, digests: Mapping[int, bytes]
    ) -> list[tuple[int, str, str]]:
        """What the newest user message asks about, of what was cut off."""
        newest = history.newest
        if not self._options.retrieval.enabled or newest is None or newest <= cut:
            return []
        before = [i for i in range(history.head, newest) if role_of(history.messages[i]) == "user"]
        found = self._retriever.find(
            self._passages(history, digests, history.head, cut),
            self._passages(history, digests, cut, newest),
            text_of(history.messages[newest]),
            text_of(history.messages[before[-1]]) if before else "",
            budget=self._options.retrieval.tokens,
            follow=lambda index: self._retractions(history, digests, index, cut),
        )
        return [(e.passage.turn, e.passage.role, e.text) for e in found]

    def _passages(
        self, history: History, digests: Mapping[int, bytes], start: int, end: int
    ) -> list[Passage]:
        return [
            Passage(
                index,
                history.turns[index],
                role_of(message),
                text_of(message),
                digests[index],
                history.costs[index],
            )
            for index in range(start, end)
            if role_of(message := history.messages[index]) in ("user", "assistant", "tool")
        ]

    def _retractions(
        self, history: History, digests: Mapping[int, bytes], index: int, cut: int
    ) -> list[int]:
        """The message that takes this one back, if there is one: neither goes without the other."""
        if role_of(history.messages[index]) != "user":
            return []
        for later in range(index + 1, cut):
            message = history.messages[later]
            if role_of(message) == "user":
                takes_back = self._instructions.takes_back(digests[later], text_of(message))
                return [later] if takes_back else []
        return []

"""Counts the tokens of texts: piece by piece, each only once, and never too many on the loop."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from . import vocabulary
from .memo import digest, salted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tiktoken

    from .memo import Memo

_log = logging.getLogger(__name__)

PIECE = 8_000
"""The most characters that are encoded at once: about a millisecond, hostile ones ten."""

_SHORT = 64  # below this, encoding a text costs no more than remembering it

# Behind a letter or a digit and in front of a space or ASCII punctuation or its Chinese kin, both
# vocabularies end a word, whatever stands further left or right: a cut there changes no token.  An
# apostrophe is not among them, because o200k_base keeps "'s" with the word.
_CUT = re.compile(r"(?s).*[^\W_](?=[\s!-&(-/:-@\[-`{-~、。，！？；：])")


def pieces(text: str, longest: int = PIECE) -> Iterator[str]:
    """Cut a text into pieces whose tokens add up to those of the whole.

    Only where a whole piece has no such cut (random letters, spaces, `=====`), the cut falls
    anywhere, and costs a token or so.
    """
    start = 0
    while len(text) - start > longest:
        cut = _CUT.match(text, start, start + longest)
        end = cut.end() if cut else start + longest
        yield text[start:end]
        start = end
    yield text[start:]


def estimate(size: int) -> int:
    """Tokens of so many bytes unseen: as many as random letters have, and twice those of prose."""
    return (size + 1) // 2


class LoopWouldStall(Exception):
    """There is more to count than the event loop can bear."""


class Allowance(NamedTuple):
    """How many characters a request may have counted that are not remembered, and where."""

    characters: int
    on_loop: bool = False


class Vocabularies:
    """The vocabularies, each loaded at its first use in the counting thread, and once."""

    def __init__(self) -> None:
        self._loaded: dict[str, tiktoken.Encoding | None] = {}

    def load(self, name: str) -> tiktoken.Encoding:
        """Load a vocabulary, or raise VocabularyError."""
        encoding = self._loaded.get(name) or vocabulary.load(name)
        self._loaded[name] = encoding
        return encoding

    def get(self, name: str, allowance: Allowance) -> tiktoken.Encoding | None:
        """A vocabulary, or None if it does not load, which is logged once and not tried again."""
        if name not in self._loaded and allowance.on_loop:
            raise LoopWouldStall
        if name not in self._loaded and allowance.characters:
            try:
                return self.load(name)
            except vocabulary.VocabularyError:
                _log.exception("Tokens are estimated from now on.")
                self._loaded[name] = None
        return self._loaded.get(name)


class Meter:
    """Counts the texts of one request.

    On the event loop it raises LoopWouldStall when the allowance is used up; the job is then done
    again in the counting thread, and what was counted by then is remembered.  There, texts beyond
    the allowance are estimated, and `guessed` says so.
    """

    def __init__(
        self, encoding: str, vocabularies: Vocabularies, memo: Memo[int], allowance: Allowance
    ) -> None:
        self.guessed = False
        self._salt = salted(encoding.encode())
        self._vocabulary = vocabularies.get(encoding, allowance)
        self._memo = memo
        self._left, self._on_loop = allowance

    def tokens(self, text: str) -> int:
        """Count one text."""
        if len(text) < _SHORT:
            return self._count(text) if text else 0
        key = digest(self._salt, text.encode("utf-8", "surrogatepass"))
        known = self._memo.get(key)
        if known is None:
            known = self._count(text)
            if not self.guessed:
                self._memo.put(key, known)
        return known

    def may_spend(self, characters: int) -> bool:
        """Take characters from the allowance, for any work that takes as long as counting them."""
        self._left -= characters
        if self._left < 0 and self._on_loop:
            raise LoopWouldStall
        return self._left >= 0

    def _count(self, text: str) -> int:
        if self._vocabulary is None or not self.may_spend(max(len(text), 16)):
            return self._guess(text)
        try:
            # Text that looks like a special token ("<|endoftext|>") is text.
            return sum(len(self._vocabulary.encode_ordinary(piece)) for piece in pieces(text))
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
            raise
        except BaseException:  # a panic of the encoder is no Exception
            _log.warning("The encoder failed on a text; its tokens are estimated.")
            return self._guess(text)

    def _guess(self, text: str) -> int:
        self.guessed = True
        return estimate(len(text.encode("utf-8", "surrogatepass")))

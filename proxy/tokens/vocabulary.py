"""Loads the byte-pair vocabularies that ship with the package; the network is never asked."""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import functools
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from importlib import resources

import tiktoken


class VocabularyError(Exception):
    """A vocabulary file is missing, or is not the one that was published."""


@dataclass(frozen=True, slots=True)
class _Publication:
    sha256: str  # of the unpacked file, as tiktoken pins it
    pattern: str  # cuts text into the words that are encoded one by one


# Sums and patterns: tiktoken_ext/openai_public.py of tiktoken 0.14.
_PUBLISHED = {
    "o200k_base": _Publication(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "|".join(  # noqa: FLY002 - one branch to a line
            [
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""\p{N}{1,3}""",
                r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
                r"""\s*[\r\n]+""",
                r"""\s+(?!\S)""",
                r"""\s+""",
            ]
        ),
    ),
    "cl100k_base": _Publication(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",  # noqa: E501  # tiktoken writes it in one line, too
    ),
}

ENCODINGS = frozenset(_PUBLISHED)
"""The names of the vocabularies."""


@functools.cache  # it never changes, and all tokenizers of a process can use it
def load(name: str) -> tiktoken.Encoding:
    """Unpack, check and build a vocabulary: half a second, the half of it holding the GIL."""
    published = _PUBLISHED[name]
    file = resources.files(__package__) / "vocabularies" / f"{name}.tiktoken.gz"
    try:
        unpacked = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise VocabularyError(f"The vocabulary {name} cannot be read: {error}") from error
    if hashlib.sha256(unpacked).hexdigest() != published.sha256:
        raise VocabularyError(f"The vocabulary {name} is not the one OpenAI published.")
    ranks = {
        binascii.a2b_base64(token): int(rank)
        for token, rank in map(bytes.split, unpacked.splitlines())
    }
    # Text that looks like a special token is text here, so no special tokens are needed.
    encoding = tiktoken.Encoding(
        name, pat_str=published.pattern, mergeable_ranks=ranks, special_tokens={}
    )
    ranks.clear()  # the encoder has copied it; only decoding, which nobody does here, would need it
    del unpacked
    _return_memory()
    return encoding


def _return_memory() -> None:
    # Building leaves 40 MB of freed memory with glibc, which keeps it unless asked.  Other C
    # libraries lack the function.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

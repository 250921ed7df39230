"""The vocabularies are loaded once for all tests; every test has its own memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from proxy.tokens import Tokenizer
from proxy.tokens.memo import Memo
from proxy.tokens.models import Models
from proxy.tokens.text import Allowance, Meter, Vocabularies
from proxy.tokens.vocabulary import ENCODINGS
from proxy.tokens.weights import Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def vocabularies() -> Vocabularies:
    loaded = Vocabularies()
    for encoding in ENCODINGS:
        loaded.load(encoding)
    return loaded


@pytest.fixture
def new_tokenizer(vocabularies: Vocabularies) -> Iterator[Callable[..., Tokenizer]]:
    made: list[Tokenizer] = []

    def new(**options: Any) -> Tokenizer:
        made.append(Tokenizer(**options))
        made[-1]._vocabularies = vocabularies
        return made[-1]

    yield new
    for tokenizer in made:
        tokenizer.close()


@pytest.fixture
def tokenizer(new_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return new_tokenizer()


@pytest.fixture
def meter(vocabularies: Vocabularies) -> Meter:
    return Meter("o200k_base", vocabularies, Memo(1_000), Allowance(4_000_000))


@pytest.fixture
def scale(meter: Meter) -> Scale:
    return Scale(Models({}).find("gpt-4o"), meter)


@pytest.fixture
def tokens(meter: Meter) -> Callable[[str], int]:
    """Counts the tokens of a text in o200k_base."""
    return meter.tokens

"""Which of an entry's answers a client gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.plugin import is_traditional

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .question import Question


def in_language(answer: str | Mapping[str, str], question: Question, wanted: str) -> str:
    """The answer in the locale that the client names, else in the language of its question, else
    the first one."""
    if isinstance(answer, str):
        return answer
    by_locale = {locale.lower().replace("_", "-"): text for locale, text in answer.items()}
    for locale in (*_narrower(wanted), *_language(question)):
        if locale in by_locale:
            return by_locale[locale]
    return next(iter(answer.values()))


def _narrower(locale: str) -> Iterator[str]:
    """A locale, and what it is a part of: zh-hant-tw, zh-hant, zh."""
    parts = locale.lower().replace("_", "-").split("-")
    for length in range(len(parts), 0, -1):
        yield "-".join(parts[:length])


def _language(question: Question) -> tuple[str, ...]:
    if not question.chinese:
        return ("en",) if question.normal.isascii() else ()
    if is_traditional(question.text):
        return ("zh-hant", "zh-tw", "zh-hk", "zh")
    return ("zh-hans", "zh-cn", "zh")

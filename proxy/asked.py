"""For how long an upstream asks not to be sent more, by the headers of its answer."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the request may come again; None if the upstream does not say.

    `retry-after-ms` is OpenAI's, `Retry-After` HTTP's: RFC 9110, 10.2.3.
    """
    pause = _number(headers.get("retry-after-ms"))
    if pause is not None:
        return pause / 1e3
    text = headers.get("Retry-After")
    pause = _number(text)
    return pause if pause is not None or text is None else _until(text)


def pause(status: int, headers: Mapping[str, str]) -> float:
    """Seconds in which no other request should come; 0 if there is nothing to wait for.

    `x-ratelimit-reset-requests` is the time in which all of the limit is there again
    (https://platform.openai.com/docs/guides/rate-limits): the next request's part of it has come
    sooner.  Where the limit is not told, all of it is waited for.
    """
    asked = retry_after(headers) if status == 429 else None
    if asked is not None:
        return asked
    if headers.get("x-ratelimit-remaining-requests") != "0":
        return 0.0
    reset = _duration(headers.get("x-ratelimit-reset-requests", ""))
    return reset / max(1.0, _number(headers.get("x-ratelimit-limit-requests")) or 1.0)


def _number(text: str | None) -> float | None:
    """What is less than nothing, or no number although it says so, is 0."""
    try:
        return max(0.0, float(text or ""))
    except ValueError:
        return None


def _until(date: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        return None


def _duration(text: str) -> float:
    """6m0s, 1.5s or 20ms, as OpenAI writes them; or a number of seconds; 0 for what is neither."""
    if (number := _number(text)) is not None:
        return number
    if not re.fullmatch(f"(?:{_PART})+", text):
        return 0.0
    return sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, text))

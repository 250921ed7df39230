"""The tokens of one exchange."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange, as the upstream reported them or as we counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    exact: bool = True
    """Reported by the upstream.  False: counted here, because the upstream's word is missing."""

    @classmethod
    def reported(cls, usage: object) -> Usage | None:
        """Read the `usage` object of a chat completion; None if it is none."""
        if not isinstance(usage, dict):
            return None
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if prompt is None or completion is None:
            return None
        prompt_details = usage.get("prompt_tokens_details")
        return cls(
            prompt,
            completion,
            _count(prompt_details, "cached_tokens") or 0,
            _count(prompt_details, "cache_write_tokens") or 0,
            _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0,
        )

    @classmethod
    def elsewhere(cls, usage: object) -> Usage | None:
        """Read the `usage` object of another endpoint, which may count input and output tokens, or
        no output at all; None if it is none."""
        if not isinstance(usage, dict):
            return None
        prompt = _first(usage, "input_tokens", "prompt_tokens")
        completion = _first(usage, "output_tokens", "completion_tokens")
        total = _count(usage, "total_tokens")
        if prompt is None:
            prompt = total if completion is None else 0
        if prompt is None:
            return None
        if completion is None:
            completion = max(0, (total or 0) - prompt)
        details = [usage.get(name) for name in _INPUT_DETAILS]
        of_output = [usage.get(name) for name in _OUTPUT_DETAILS]
        return cls(
            prompt,
            completion,
            next((n for each in details if (n := _count(each, "cached_tokens"))), 0),
            next((n for each in details if (n := _count(each, "cache_write_tokens"))), 0),
            next((n for each in of_output if (n := _count(each, "reasoning_tokens"))), 0),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            exact=self.exact and other.exact,
        )

    def body(self) -> dict[str, int]:
        """The `usage` object of an answer."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


# The Realtime API has them in the singular.
_INPUT_DETAILS = ("input_tokens_details", "input_token_details", "prompt_tokens_details")
_OUTPUT_DETAILS = ("output_tokens_details", "output_token_details", "completion_tokens_details")


@dataclass(frozen=True, slots=True)
class Report:
    """A usage that an answer tells, and the model that it says has made it."""

    usage: Usage
    model: str | None = None


def _first(usage: object, *names: str) -> int | None:
    return next((n for name in names if (n := _count(usage, name)) is not None), None)


def _count(details: object, name: str) -> int | None:
    """A number of tokens; what cannot be one, as the -1 of some servers, is none."""
    value = details.get(name) if isinstance(details, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 53 else None

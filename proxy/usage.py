"""The tokens of one chat completion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one chat completion, as the upstream reported them or as we counted them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    exact: bool = True
    """Reported by the upstream.  False: counted here, because the upstream's word is missing."""

    @classmethod
    def reported(cls, usage: object) -> Usage | None:
        """Read the `usage` object of an answer; None if it is none."""
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

    def body(self) -> dict[str, int]:
        """The `usage` object of an answer."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


def _count(details: object, name: str) -> int | None:
    """A number of tokens; what cannot be one, as the -1 of some servers, is none."""
    value = details.get(name) if isinstance(details, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 53 else None

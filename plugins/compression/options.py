"""The options of the plugin, and the policies they stand for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from proxy.plugin import Options, Seconds

from .plan import EveryK, Hysteresis, Policy, Window

Tokens = Annotated[int, Field(ge=1)]

PRESETS = {"default": (12_000, 3_000), "economy": (8_000, 3_000), "quality": (24_000, 4_000)}
"""High and low water, in tokens; `python -m benchmarks.billing` shows what they cost."""


class Summariser(Options):
    """A model that sums up what is cut off: any server of OpenAI's API, never waited for."""

    model: Annotated[str, Field(min_length=1)]
    base_url: AnyHttpUrl = AnyHttpUrl("https://api.openai.com/v1")
    api_key: SecretStr | None = None
    """Best as "env:NAME"."""
    timeout: Seconds = 20.0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """Absent from the call if null, for models that take none."""


class Retrieval(Options):
    """Earlier messages that the newest one asks about, found by their words."""

    enabled: bool = True
    tokens: Tokens = 600
    """At most so many tokens of them."""


class CompressionOptions(Options):
    """What is left out of long chats, and what is put in its place."""

    policy: Literal["hysteresis", "window", "every_k"] = "hysteresis"
    """hysteresis: rarely and in one large step, which keeps the upstream's prompt cache warm;
    window: only the newest exchanges, a new prompt each turn; every_k: a summary every `every`
    exchanges."""
    preset: Literal["default", "economy", "quality", "auto"] = "default"
    """The marks of hysteresis: 12,000 and 3,000 tokens, 8,000 and 3,000, 24,000 and 4,000, or
    reckoned from the model's prices."""
    high: Tokens | None = None
    """Instead of the preset's: compact above so many tokens."""
    low: Tokens | None = None
    """Instead of the preset's: compact to about so many tokens."""
    keep: Annotated[int, Field(ge=0)] = 3
    """Exchanges that stay as they are, beside the newest."""
    window_tokens: Tokens | None = None
    """Of policy window: tokens of history that stay, filled up from the newest exchange back."""
    window_exchanges: Annotated[int, Field(ge=1)] | None = None
    """Of policy window: exchanges that stay."""
    every: Annotated[int, Field(ge=1)] = 5
    """Of policy every_k: exchanges that are summed up together."""
    segment_tokens: Tokens = 300
    """What a summary of one cut may take."""
    segments: Annotated[int, Field(ge=1, le=64)] = 6
    """Summaries there may be; older ones are made anew as one."""
    pins: bool = True
    """Keep the user's standing instructions word for word."""
    pin_tokens: Tokens | None = None
    """What they may take: a tenth of the low mark if absent."""
    retrieval: Retrieval = Retrieval()
    summariser: Summariser | None = None
    """Absent: extracts are made here, without any model."""
    prompt_cache_key: bool | None = None
    """Send the upstream a key that keeps a chat on one cache, where the client sends none.
    Absent: only to api.openai.com."""
    ttl: Seconds = 86_400.0
    """How long a summary that nobody asks for is kept."""

    @model_validator(mode="after")
    def _in_order(self) -> CompressionOptions:
        high, low = self.marks
        if low >= high:
            raise ValueError(f"low is {low}, which is not below high, {high}")
        if self.policy == "window" and not (self.window_tokens or self.window_exchanges):
            raise ValueError('policy "window" needs window_tokens or window_exchanges')
        return self

    @property
    def marks(self) -> tuple[int, int]:
        """High and low water, in tokens."""
        high, low = PRESETS.get(self.preset, PRESETS["default"])
        return self.high or high, self.low or low

    def policy_for(self, high: int, low: int) -> Policy:
        """The policy between these marks."""
        if self.policy == "window":
            return Window(self.window_tokens, self.window_exchanges)
        if self.policy == "every_k":
            return EveryK(self.every, self.keep, self.segment_tokens, self.segments)
        return Hysteresis(high, low, self.keep, self.segment_tokens, self.segments)

    def fingerprint(self) -> str:
        """Stands for all that decides what is made of a segment; other settings, other texts."""
        model = self.summariser.model if self.summariser else ""
        parts: list[Any] = [VERSION, self.segment_tokens, model]
        return "|".join(map(str, parts))


VERSION = 1
"""Of the digest, the prompt and the validation: what older ones made is not used any more."""

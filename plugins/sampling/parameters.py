"""The parameters of a request as its rules have them, and as its model takes them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.plugin import ChatRequest

    from .options import Rules

# What OpenAI's reasoning models answer with a 400, https://platform.openai.com/docs/guides/reasoning
_NOT_WITH_REASONING = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
)
_REASONING = re.compile(r"(?:o[1-9]|codex|gpt-[5-9])(?!\d)(?!-chat)")
_NO_STOP = re.compile(r"(?:o[3-9]|gpt-[5-9])(?!\d)(?!-chat)")
# These reason only when they are told to; those after them again unless they are told not to.
_REASONING_ON_DEMAND = re.compile(r"gpt-5\.[1-5](?!\d)(?!.*pro)")


def with_values(request: ChatRequest, rules: Rules) -> ChatRequest:
    """The request with every parameter but the token limit as the rules have it."""
    changes = {}
    for name in ("temperature", "top_p", "n", "stop", "logit_bias", "seed"):
        sent = request.get(name)
        value = getattr(rules.overrides, name)
        if value is None:
            limit = getattr(rules.limits, name, None)
            value = getattr(rules.defaults, name) if sent is None else _within(name, sent, limit)
        elif name == "logit_bias" and isinstance(sent, dict):
            value = sent | value
        if value is not None and value != sent:
            changes[name] = value
    return request.replace(**changes) if changes else request


def _within(name: str, sent: Any, limit: Any) -> Any:
    """A client's value, moved to the nearest one allowed; what is no value stays as it is."""
    if limit is None:
        return sent
    if name == "stop":
        return sent[:limit] if isinstance(sent, list) else sent
    if name == "logit_bias":
        if not isinstance(sent, dict):
            return sent
        return {token: _between(bias, -limit, limit) for token, bias in sent.items()}
    return _between(sent, 1, limit) if name == "n" else _between(sent, *limit)


def _between(value: Any, low: float, high: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return min(max(value, low), high)


def with_token_limit(request: ChatRequest, rules: Rules) -> ChatRequest:
    """The request with its token limit as the rules have it, by the name that the model takes."""
    changes: dict[str, Any] = {}
    cap, forced = rules.limits.max_tokens, rules.overrides.max_tokens
    sent = [n for n in ("max_tokens", "max_completion_tokens") if request.get(n) is not None]
    for name in sent:
        value = request.get(name) if forced is None else forced
        if isinstance(value, int):
            changes[name] = value if cap is None or forced is not None else min(value, cap)
    if not sent:
        wanted = forced or min((v for v in (rules.defaults.max_tokens, cap) if v), default=None)
        if wanted is not None:
            changes["max_tokens"] = wanted
    if _REASONING.match(_plain(request.model)):
        limit = changes.pop("max_tokens", None)
        if limit is not None:
            changes.setdefault("max_completion_tokens", limit)
            request = request.without("max_tokens")
    changes = {name: value for name, value in changes.items() if value != request.get(name)}
    return request.replace(**changes) if changes else request


def unsupported(request: ChatRequest, known: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The parameters that its model would answer with an error."""
    model, names = _plain(request.model), set[str]()
    if _REASONING.match(model):
        effort = request.get("reasoning_effort")
        on_demand = _REASONING_ON_DEMAND.match(model) and effort is None
        if effort != "none" and not on_demand:
            names.update(_NOT_WITH_REASONING)
        if _NO_STOP.match(model):
            names.add("stop")
    for glob, parameters in known.items():
        if fnmatchcase(request.model, glob):
            names.update(parameters)
    return names


def _plain(model: str) -> str:
    """The name of a model without its provider, and without "ft:"."""
    return model.lower().rpartition("/")[2].removeprefix("ft:")

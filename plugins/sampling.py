"""Sampling parameters by scene: what clients may leave out, must keep within, or cannot choose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from proxy.plugin import Options, Plugin, note

if TYPE_CHECKING:
    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Services

Temperature = Annotated[float, Field(ge=0, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Values(Options):
    """Values of sampling parameters.  `max_tokens` goes by the name that the model takes."""

    temperature: Temperature | None = None
    top_p: Probability | None = None
    max_tokens: Positive | None = None
    n: Positive | None = None
    stop: Annotated[tuple[str, ...], Field(min_length=1, max_length=4)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = None


class Limits(Options):
    """What clients' values are kept within; that of tokens holds for those who send none, too."""

    temperature: tuple[Temperature, Temperature] | None = None
    top_p: tuple[Probability, Probability] | None = None
    max_tokens: Positive | None = None
    n: Positive | None = None
    stop: Annotated[int, Field(ge=1, le=4)] | None = None
    """How many stop sequences; the first ones are kept."""
    logit_bias: Annotated[float, Field(ge=0, le=100)] | None = None
    """The largest bias, either way."""

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        for bounds in (self.temperature, self.top_p):
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"the lower bound {bounds[0]} is above the upper one {bounds[1]}")
        return self


class Rules(Options):
    """What happens to the parameters of a request."""

    defaults: Values = Values()
    """Used where the client sends nothing."""
    limits: Limits = Limits()
    """Clients' values are moved to the nearest one allowed."""
    overrides: Values = Values()
    """Used whatever the client sends."""


class Scene(Rules):
    """Rules for some requests.

    All the conditions that it has must hold; one without any is chosen by name only, in the header
    `x-dragoman-scene`, which also chooses one whose conditions do not hold.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    models: tuple[str, ...] = ()
    """Patterns such as "gpt-4o*"."""
    callers: tuple[str, ...] = ()
    """Patterns of keys' names, or "group:" and one of their groups."""
    pattern: re.Pattern[str] | None = None
    """A regular expression, searched in the newest user message (its first 4,000 characters)."""


class SamplingOptions(Rules):
    """Options of `sampling`: rules for all requests, and scenes that add to them."""

    scenes: tuple[Scene, ...] = ()
    """The one that the header names, else the first whose conditions hold; its values win over
    those for all requests."""
    unsupported: Mapping[str, tuple[str, ...]] = {}
    """Parameters that a model does not take and that are never sent to it: "my-model*" = ["seed"].
    OpenAI's reasoning models are known."""

    @model_validator(mode="after")
    def _distinct(self) -> SamplingOptions:
        names = [scene.name for scene in self.scenes]
        if len(set(names)) < len(names):
            raise ValueError("two scenes have the same name")
        return self


SEARCHED = 4_000
"""Characters of a message that a scene's pattern is searched in."""

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


class Sampling(Plugin[SamplingOptions]):
    """Defaults, limits and overrides for temperature, max_tokens and the like, by scene."""

    Config = SamplingOptions
    on_error = "open"

    def __init__(self, config: SamplingOptions, services: Services) -> None:
        super().__init__(config, services)
        self._rules = {scene.name: merged(config, scene) for scene in config.scenes}

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        scene = choose_scene(self.config.scenes, request)
        rules: Rules = self.config
        if scene is not None:
            note(sampling_scene=scene.name)
            rules = self._rules[scene.name]
        changed = with_token_limit(with_values(request, rules), rules)
        return await call_next(without_unsupported(changed, self.config.unsupported))

    @classmethod
    def summary(cls, config: SamplingOptions) -> str:
        scenes = ", ".join(scene.name for scene in config.scenes)
        return f"scenes {scenes}" if scenes else "one set of rules for all"


# ---- scenes


def choose_scene(scenes: tuple[Scene, ...], request: ChatRequest) -> Scene | None:
    """The scene that the client names, else the first whose conditions hold."""
    wanted = request.options.get("scene")
    named = (scene for scene in scenes if scene.name == wanted)
    return next(named, None) or next((s for s in scenes if _holds(s, request)), None)


def _holds(scene: Scene, request: ChatRequest) -> bool:
    if not (scene.models or scene.callers or scene.pattern):
        return False  # only by name
    if scene.models and not any(fnmatchcase(request.model, glob) for glob in scene.models):
        return False
    if not request.caller.fits(scene.callers):
        return False
    return scene.pattern is None or bool(scene.pattern.search(newest_user_text(request)))


def newest_user_text(request: ChatRequest) -> str:
    """The text of the newest user message, as far as patterns are searched in it."""
    for message in reversed(request.messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content[:SEARCHED]
            parts = content if isinstance(content, list) else []
            texts = (part.get("text") for part in parts if isinstance(part, dict))
            return "\n".join(text for text in texts if isinstance(text, str))[:SEARCHED]
    return ""


def merged(rules: Rules, scene: Rules) -> Rules:
    """Rules for all requests with those of a scene over them, value by value."""

    def over(below: Options, above: Options) -> dict[str, Any]:
        return below.model_dump(exclude_none=True) | above.model_dump(exclude_none=True)

    return Rules(
        defaults=Values(**over(rules.defaults, scene.defaults)),
        limits=Limits(**over(rules.limits, scene.limits)),
        overrides=Values(**over(rules.overrides, scene.overrides)),
    )


# ---- parameters


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


def without_unsupported(
    request: ChatRequest, unsupported: Mapping[str, tuple[str, ...]]
) -> ChatRequest:
    """The request without parameters that its model would answer with an error."""
    model, names = _plain(request.model), set[str]()
    if _REASONING.match(model):
        effort = request.get("reasoning_effort")
        on_demand = _REASONING_ON_DEMAND.match(model) and effort is None
        if effort != "none" and not on_demand:
            names.update(_NOT_WITH_REASONING)
        if _NO_STOP.match(model):
            names.add("stop")
    for glob, parameters in unsupported.items():
        if fnmatchcase(request.model, glob):
            names.update(parameters)
    return request.without(*sorted(names)) if names else request


def _plain(model: str) -> str:
    """The name of a model without its provider, and without "ft:"."""
    return model.lower().rpartition("/")[2].removeprefix("ft:")

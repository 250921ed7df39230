"""The options of the plugin: what happens to sampling parameters, by scene."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from proxy.plugin import Options, Seconds

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


class Tune(Options):
    """Temperatures of which feedback tells the best; for requests that bring none of their own."""

    temperature: Annotated[tuple[Temperature, ...], Field(min_length=2, max_length=16)]
    """The ones to choose from."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The share of requests whose temperature is drawn blindly, whatever is known."""
    min_feedback: Positive = 10
    """Until each temperature has had so much feedback, those that have not take turns."""
    half_life: Annotated[int, Field(ge=0)] = 1_000
    """After so many feedbacks in the scene, an old one counts half.  0: all count alike for ever."""
    freeze: bool = False
    """Use the best one so far for all requests, and learn no more."""
    override_client: bool = False
    """Choose the temperature of clients that send one, too."""

    @model_validator(mode="after")
    def _distinct(self) -> Tune:
        if len(set(self.temperature)) < len(self.temperature):
            raise ValueError("a temperature stands there twice")
        return self


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
    tune: Tune | None = None
    """Learn the temperature of the scene from feedback."""


class Feedback(Options):
    """What is common to all scenes that learn."""

    ttl: Annotated[Seconds, Field(ge=1, le=30 * 86_400)] = 86_400.0
    """How long after an answer feedback on it is taken."""
    refresh: Annotated[Seconds, Field(ge=0.1, le=3_600)] = 3.0
    """How old what a process knows of feedback that others have taken may be."""


class SamplingOptions(Rules):
    """Options of `sampling`: rules for all requests, and scenes that add to them."""

    scenes: tuple[Scene, ...] = ()
    """The one that the header names, else the first whose conditions hold; its values win over
    those for all requests."""
    unsupported: Mapping[str, tuple[str, ...]] = {}
    """Parameters that a model does not take and that are never sent to it: "my-model*" = ["seed"].
    OpenAI's reasoning models are known."""
    feedback: Feedback = Feedback()

    @model_validator(mode="after")
    def _distinct(self) -> SamplingOptions:
        names = [scene.name for scene in self.scenes]
        if len(set(names)) < len(names):
            raise ValueError("two scenes have the same name")
        return self

    @model_validator(mode="after")
    def _can_be_tuned(self) -> SamplingOptions:
        for scene in self.scenes:
            if scene.tune is not None:
                _check_tune(scene.name, scene.tune, merged(self, scene))
        return self


def _check_tune(name: str, tune: Tune, rules: Rules) -> None:
    if rules.overrides.temperature is not None:
        raise ValueError(f"the scene {name} tunes a temperature that an override fixes")
    low, high = rules.limits.temperature or (0.0, 2.0)
    outside = [each for each in tune.temperature if not low <= each <= high]
    if outside:
        raise ValueError(f"the scene {name} tunes {outside[0]}, beyond its limits {low} to {high}")


def merged(rules: Rules, scene: Rules) -> Rules:
    """Rules for all requests with those of a scene over them, value by value."""

    def over(below: Options, above: Options) -> dict[str, Any]:
        return below.model_dump(exclude_none=True) | above.model_dump(exclude_none=True)

    return Rules(
        defaults=Values(**over(rules.defaults, scene.defaults)),
        limits=Limits(**over(rules.limits, scene.limits)),
        overrides=Values(**over(rules.overrides, scene.overrides)),
    )

"""The plugin: makes the parameters of a request what the rules of its scene say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from proxy.plugin import Endpoint, Plugin, note

from . import audit, feedback
from .options import SamplingOptions, merged
from .parameters import unsupported, with_token_limit, with_values
from .scenes import choose_scene
from .tuner import Tuner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import (
        CallNext,
        ChatRequest,
        ChatResponse,
        EndpointRequest,
        EndpointResponse,
        Outcome,
        Services,
    )

    from .options import Rules, Scene
    from .trials import Trial


class Sampling(Plugin[SamplingOptions]):
    """Defaults, limits and overrides for temperature, max_tokens and the like, by scene."""

    Config = SamplingOptions
    on_error = "open"

    def __init__(self, config: SamplingOptions, services: Services) -> None:
        super().__init__(config, services)
        self._rules = {scene.name: merged(config, scene) for scene in config.scenes}
        tuned = [scene for scene in config.scenes if scene.tune is not None]
        self._tuner = Tuner(tuned, config.feedback, services) if tuned else None

    async def start(self) -> None:
        if self._tuner is not None:
            await self._tuner.start()

    async def stop(self) -> None:
        if self._tuner is not None:
            await self._tuner.stop()

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        scene = choose_scene(self.config.scenes, request)
        rules: Rules = self.config
        if scene is not None:
            note(sampling_scene=scene.name)
            rules = self._rules[scene.name]
        changed = with_token_limit(with_values(request, rules), rules)
        refused = unsupported(changed, self.config.unsupported)
        trial = self._try(scene, request, refused)
        if trial is not None:
            note(sampling_temperature=trial.temperature)
            if changed.get("temperature") != trial.temperature:
                changed = changed.replace(temperature=trial.temperature)
        response = await call_next(changed.without(*sorted(refused)) if refused else changed)
        if trial is not None and _was_made_by(trial, response):
            told = f"scene={trial.scene}; temperature={trial.temperature}"
            response.headers["x-dragoman-sampling"] = told
            response.on_finish(partial(self._settle, request.caller.id, trial, response))
        return response

    def _try(self, scene: Scene | None, request: ChatRequest, refused: set[str]) -> Trial | None:
        """A temperature of the scene's own choice, where it has one and the model takes any."""
        if self._tuner is None or scene is None or scene.tune is None or "temperature" in refused:
            return None
        if request.get("temperature") is not None and not scene.tune.override_client:
            return None
        return self._tuner.choose(scene.name)

    async def _settle(
        self, caller: str, trial: Trial, response: ChatResponse, outcome: Outcome
    ) -> None:
        if self._tuner is not None and outcome.status != "failed":
            response_id = response.exchange.facts.response.get("id", "")
            await self._tuner.answered(caller, response_id, trial)

    def endpoints(self) -> Sequence[Endpoint]:
        tuner = self._tuner
        if tuner is None:
            return ()

        async def show(_: EndpointRequest) -> EndpointResponse:
            return await audit.show(tuner)

        return (
            Endpoint("POST", feedback.PATH, partial(feedback.take, tuner)),
            Endpoint("GET", audit.PATH, show),
            Endpoint("POST", audit.PATH + "/{scene}/reset", partial(audit.reset, tuner)),
        )

    @classmethod
    def summary(cls, config: SamplingOptions) -> str:
        scenes = ", ".join(
            f"{scene.name} (tuned)" if scene.tune else scene.name for scene in config.scenes
        )
        return f"scenes {scenes}" if scenes else "one set of rules for all"


def _was_made_by(trial: Trial, response: ChatResponse) -> bool:
    """Was the answer made with the temperature that was chosen?

    Not if a plugin answered, the upstream refused, a plugin further in chose another temperature,
    or this is but a rehearsal.
    """
    sent = response.exchange.sent
    has_it = sent is not None and sent.get("temperature") == trial.temperature
    return has_it and response.ok and response.source == "upstream"

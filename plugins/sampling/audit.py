"""What operators see of the scenes that learn, and how they make them forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.plugin import EndpointResponse, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from proxy.plugin import EndpointRequest

    from .choice import View
    from .options import Tune
    from .tuner import Tuner

PATH = "/admin/sampling"


async def show(tuner: Tuner) -> EndpointResponse:
    """All scenes that learn; as last known, where Redis is gone."""
    is_current = True
    try:
        await tuner.sync()
    except StoreUnavailable:
        if not tuner.views:
            raise
        is_current = False
    scenes = {name: told(tuner.scenes[name], view) for name, view in tuner.views.items()}
    return EndpointResponse({"is_current": is_current, "scenes": scenes})


async def reset(tuner: Tuner, request: EndpointRequest) -> EndpointResponse:
    """Forget what is known of a scene.  NotFound, StoreUnavailable."""
    scene = request.path["scene"]
    if scene not in tuner.scenes:
        raise NotFound("No scene of that name learns.", code="scene_not_found")
    await tuner.reset(scene)
    return EndpointResponse(told(tuner.scenes[scene], tuner.views[scene]))


def told(tune: Tune, view: View) -> dict[str, Any]:
    best = view.best
    return {
        "frozen": tune.freeze,
        "best": None if best is None else best.temperature,
        "temperatures": [
            {
                "temperature": arm.temperature,
                "chosen": arm.chosen,
                "feedback": arm.feedback,
                "mean": arm.score,
                "posterior": {"alpha": arm.alpha, "beta": arm.beta, "mean": arm.expected},
            }
            for arm in view.arms
        ],
    }

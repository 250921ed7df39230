"""What clients say of an answer: POST /dragoman/v1/feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.plugin import EndpointResponse, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.plugin import EndpointRequest

    from .tuner import Tuner

PATH = "/dragoman/v1/feedback"

THUMBS = {"up": 1.0, "down": -1.0}

MAX_ID = 256
"""Characters of an answer's id."""


async def take(tuner: Tuner, request: EndpointRequest) -> EndpointResponse:
    """Take a feedback.  InvalidRequest, NotFound, StoreUnavailable."""
    response_id, score = _read(request.body)
    trial = await tuner.trials.find(request.caller.id, response_id)
    if trial is None:
        raise NotFound(
            "There is no such answer of yours that feedback is taken on: its temperature was not "
            "tuned, or it is too old.",
            param="response_id",
            code="response_not_found",
        )
    learned = await tuner.learn(trial, score)
    return EndpointResponse(
        {
            "response_id": response_id,
            "score": score,
            "scene": trial.scene,
            "temperature": trial.temperature,
            "learned": learned is not None and learned.outcome >= 0,
            "replaced": learned is not None and learned.outcome == 0,
        }
    )


def _read(body: Mapping[str, Any]) -> tuple[str, float]:
    """The id of an answer, and its score.  InvalidRequest."""
    for name in body:
        if name not in ("response_id", "score", "thumbs", "comment"):
            raise _invalid(name, "is not known here")
    response_id = body.get("response_id")
    if not isinstance(response_id, str) or not 0 < len(response_id) <= MAX_ID:
        raise _invalid("response_id", "should be the id of a chat completion")
    if not isinstance(body.get("comment", ""), str):
        raise _invalid("comment", "should be a text")
    if "thumbs" in body:
        return response_id, _thumbs(body)
    score = body.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not -1 <= score <= 1:
        raise _invalid("score", "should be a number from -1 to 1")
    return response_id, float(score)


def _thumbs(body: Mapping[str, Any]) -> float:
    if "score" in body:
        raise _invalid("score", "and 'thumbs' say the same: send one of them")
    thumbs = body["thumbs"]
    if not isinstance(thumbs, str) or thumbs not in THUMBS:
        raise _invalid("thumbs", "should be 'up' or 'down'")
    return THUMBS[thumbs]


def _invalid(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"'{name[:64]}' {problem}.", param=name[:64])

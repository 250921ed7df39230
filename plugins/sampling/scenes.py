"""Which scene a request belongs to."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.plugin import ChatRequest

    from .options import Scene

SEARCHED = 4_000
"""Characters of a message that a scene's pattern is searched in."""


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

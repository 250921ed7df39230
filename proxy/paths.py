"""What the path of a request says, however it is spelled.  Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Where messages to a model travel beside /chat/completions; `messages` is Anthropic's endpoint, which
# many servers have, too.
_WITH_MESSAGES = re.compile(
    r"/v1/(?:(?:openai/)?deployments/[^/]+/(?:chat/)?|engines/[^/]+/)?"  # as Azure's client names them
    r"(?:responses|completions|conversations|threads|batches|realtime|live|agents/sessions|decisions"
    r"|messages)(?![\w-])"
)
# What POST changes there was made before, and is told with its usage again.
_STORED = re.compile(
    r"/v1/(?:chat/completions/[^/]+|threads/[^/]+/runs/[^/]+(?:/cancel)?|batches\b.*)$"
)
_DEPLOYMENT = re.compile(r"/v1/(?:openai/)?(?:deployments|engines)/([^/]+)/", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"(?:^|/|%2f)(?:\.|%2e){1,2}(?:/|%2f|$)", re.IGNORECASE)
_SLASHES = re.compile(r"[/\\]+")
_PARAMETERS = re.compile(r";[^/]*")


def plainly(path: str) -> str:
    """A path as a lenient server reads it: by another spelling none is another endpoint."""
    return _decoded(path).rstrip("/").lower()


def carries_messages(plain: str) -> bool:
    """Do messages to a model travel there, or what they lead to?"""
    return _WITH_MESSAGES.match(plain) is not None


def is_of_stored(plain: str) -> bool:
    """Does an answer to POST there tell of what was made, and paid, before?"""
    return _STORED.match(plain) is not None


def deployment(path: str) -> str | None:
    """The model that the path names, as paths of Azure do."""
    found = _DEPLOYMENT.match(_decoded(path))
    return found and found[1]


def climbs(path: str) -> bool:
    """Has it dot segments, which may lead out of the API?"""
    return _DOT_SEGMENT.search(path) is not None


def _decoded(path: str) -> str:
    return _SLASHES.sub("/", _PARAMETERS.sub("", unquote(path)))

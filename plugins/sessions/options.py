"""The options of the plugin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.plugin import Options, Seconds, Size


class SessionsOptions(Options):
    """Options of `sessions`."""

    ttl: Annotated[Seconds, Field(gt=0)] = 86_400.0
    """How long a session is kept after its last request."""
    max_turns: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Turns of a session; with one more, the oldest is forgotten."""
    max_bytes: Annotated[Size, Field(ge=1_000, le=4_000_000)] = 1_000_000
    """Bytes of a session as it is stored; beyond, the oldest turns are forgotten."""
    concurrent: Literal["wait", "refuse"] = "wait"
    """What a request does while another one of its session is under way: wait for its end, or be
    refused with a 409."""
    max_wait: Seconds = 30.0
    """How long it waits, before it is refused after all."""
    incomplete: Literal["drop", "keep"] = "drop"
    """Whether turns whose answer broke off are left out of what the model sees."""
    commands: bool = False
    """Whether a message that is nothing but "delete my last message" does that, and is answered
    here."""

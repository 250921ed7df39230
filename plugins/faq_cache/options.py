"""The options of the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from proxy.plugin import Options, Seconds


class NearHits(Options):
    """Questions that an entry nearly answers: what aliases could be made of."""

    enabled: bool = True
    """Count them, and keep them in the store for `dragoman faq review`."""
    questions: bool = False
    """Keep the questions themselves, too; else only a hash of them, with score and veto."""
    score: Annotated[float, Field(ge=0, le=1)] = 0.6
    """The least share of words in common."""
    per_entry: Annotated[int, Field(ge=1, le=1_000)] = 50
    """How many are kept for each entry."""
    ttl: Seconds = 2_592_000.0
    """How long they are kept."""


class Responses(Options):
    """The response cache: what the upstream has said to the very same request."""

    enabled: bool = False
    ttl: Annotated[Seconds, Field(gt=0)] = 3_600.0
    """How long an answer is given again."""
    wait: Seconds = 20.0
    """How long a request waits for the answer to the same one that is under way."""


class FaqOptions(Options):
    """What is answered without the upstream."""

    file: Path | None = None
    """The questions and answers: TOML, JSON, or YAML if pyyaml is installed.  Read again when it
    changes.  A relative path starts where the proxy was started."""
    lexical: bool = True
    """Answer, too, what differs only in words without meaning; else only the same question."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The least share of words that a question and its alias have in common."""
    first_turn_only: bool = True
    """Answer first questions only; else also later ones that stand alone."""
    near: NearHits = NearHits()
    responses: Responses = Responses()

    @model_validator(mode="after")
    def _does_something(self) -> FaqOptions:
        if self.file is None and not self.responses.enabled:
            raise ValueError("needs a file, or responses.enabled = true")
        return self

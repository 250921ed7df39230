"""The options of the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AnyHttpUrl, Field, SecretStr, model_validator

from proxy.plugin import Options, Seconds

Stage: TypeAlias = Literal["input", "output"]
STAGES: tuple[Stage, ...] = ("input", "output")
Action: TypeAlias = Literal["block", "flag", "mask"]
Failure: TypeAlias = Literal["open", "closed"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,64}$")]
Characters = Annotated[int, Field(ge=1, le=100_000)]


def _compiles(pattern: str) -> str:
    import regex  # type: ignore[import-untyped]

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


class WordList(Options):
    """Words and patterns of the operator's, and what is done where one of them occurs."""

    name: Name
    """Its category: in metrics, on traces, and in answers if those may show categories."""
    words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """However they are written: in capitals, full width, with zero-width characters or digits for
    letters.  Words of letters are found as whole words; Chinese, Japanese and Thai anywhere."""
    files: tuple[Path, ...] = ()
    """More words, one in each line, in UTF-8; read at start."""
    patterns: tuple[Annotated[str, AfterValidator(_compiles)], ...] = ()
    """Regular expressions, searched in the text as it is."""
    action: Action = "block"
    """block it; flag it in metrics and on the trace; or mask what was found with asterisks."""
    stages: tuple[Stage, ...] = STAGES

    @model_validator(mode="after")
    def _holds_something(self) -> WordList:
        if not (self.words or self.files or self.patterns):
            raise ValueError("has neither words nor files nor patterns")
        return self


class Category(Options):
    """What is done about one category of the Moderation API."""

    name: Name
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """The score from which on it counts.  Absent: whenever the API says so."""
    action: Literal["block", "flag", "ignore"] = "block"


class Limit(Options):
    """What is done about one category of a classifier."""

    name: Name
    threshold: Annotated[float, Field(ge=0, le=1)]
    """The score from which on it counts."""
    action: Action = "block"
    """A classifier tells no place: what is masked is all of the text that it judged together."""


class ClassifierOptions(Options):
    """A model on this machine that gives scores to texts."""

    use: Literal["english", "onnx", "detoxify"]
    """The one in this package, for English; one in ONNX; or Detoxify with torch."""
    name: Name | None = None
    """In metrics and messages.  Absent: what is used."""
    path: Path | None = None
    """The folder of the model."""
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """What its model.onnx, or model.ckpt, must be."""
    categories: tuple[Limit, ...] = ()
    """Those that are looked for.  `english` has one, `offensive`, which blocks from 0.7 on."""
    stages: tuple[Stage, ...] = STAGES
    timeout: Annotated[Seconds, Field(gt=0)] = 2.0
    """How long a text may take, with the time in which it waits for others."""
    queue: Annotated[int, Field(ge=1)] = 64
    """Texts that may wait at once."""

    @model_validator(mode="after")
    def _can_be_used(self) -> ClassifierOptions:
        if self.use == "english":
            if self.path or self.sha256:
                raise ValueError("english is part of the package: no path, no sha256")
            return self
        if self.path is None:
            raise ValueError("needs the path of its folder")
        if not self.categories:
            raise ValueError("has no categories: nothing would be found")
        if self.use == "detoxify" and self.sha256 is None:
            raise ValueError("needs sha256: a checkpoint may run what somebody put into it")
        return self

    @property
    def title(self) -> str:
        return self.name or self.use

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.categories or (Limit(name="offensive", threshold=0.7),)

    @property
    def comes_first(self) -> bool:
        """Before the upstream is called, whatever the order: it is quick, or changes the request."""
        return self.use == "english" or any(limit.action == "mask" for limit in self.limits)


class API(Options):
    """A server of OpenAI's Moderation API."""

    base_url: AnyHttpUrl = AnyHttpUrl("https://api.openai.com/v1")
    api_key: SecretStr | None = None
    """Best as "env:NAME"."""
    model: Annotated[str, Field(min_length=1)] = "omni-moderation-latest"
    timeout: Annotated[Seconds, Field(gt=0)] = 2.0
    """How long one check may take."""
    patience: Seconds = 4.0
    """How long a check that is rate-limited is tried again."""
    stages: tuple[Stage, ...] = STAGES
    images: bool = False
    """Ask about the images of users, too, each by itself.  What is on the web the API fetches."""
    categories: tuple[Category, ...] = ()
    """Those that are not named block whenever the API says so."""


class Input(Options):
    """The new user turn, and the results of tools in it."""

    order: Literal["before", "parallel"] = "parallel"
    """Ask classifiers and the Moderation API before the upstream is called, or beside that: nothing
    is shown before the verdict, but flagged text has then reached the upstream.  Lists, `english`
    and what masks always come before."""
    history: Literal["new", "all"] = "new"
    """Check the new turn, or every message of users and tools; verdicts are remembered."""
    on_error: Failure = "closed"
    """When a check fails: go on without it, or answer 503."""
    answer: Literal["error", "completion"] = "error"
    """What a client gets whose input is blocked: a 400, or a completion whose `finish_reason` is
    `content_filter`."""
    code: Literal["content_policy_violation", "content_filter"] = "content_policy_violation"
    """The code of the error; clients of Azure know `content_filter`."""
    message: str = "The request was rejected by the content policy."


class Output(Options):
    """What the model says, reasoning and arguments of tool calls included."""

    on_error: Failure = "closed"
    """When a check fails: show what was not checked, or end with an error."""
    replacement: str = ""
    """Shown in place of what was blocked."""
    hold: Literal["window", "answer"] = "window"
    """Of streams: show each window once it is checked, or nothing before all is."""
    first: Characters = 24
    """Characters of the first window; windows end with a sentence where there is one."""
    window: Characters = 48
    """Characters of the others, at least."""
    most: Characters = 600
    """Characters of a window at most, however fast they come."""
    interval: Seconds | None = None
    """Time between windows.  Absent: 0.5 s if the Moderation API is asked, 0.25 s for a classifier
    other than `english`, else 0.1 s."""
    context: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Characters in front of a window that are checked with it."""
    confirm: Annotated[int, Field(ge=0, le=100_000)] = 1_000
    """What the API or a classifier blocks in a window is asked once more, with so many characters
    before its end: a window alone is often flagged wrongly.  0: the first verdict stands."""


class ModerationOptions(Options):
    """Options of `moderation`: what is looked for, and what happens where it is found."""

    lists: tuple[WordList, ...] = ()
    classifiers: tuple[ClassifierOptions, ...] = ()
    api: API | None = None
    """Absent: no text goes anywhere."""
    input: Input = Input()
    output: Output = Output()
    field: Literal["pass", "answer"] = "pass"
    """The field `moderation` of a request: pass it to the upstream, or keep it from there and
    answer it with what is found here."""
    expose_categories: bool = False
    """Tell the client what was found, and not only that something was."""
    cache: Annotated[int, Field(ge=0)] = 10_000
    """Verdicts that are remembered, of the API and of each classifier."""

    @model_validator(mode="after")
    def _looks_for_something(self) -> ModerationOptions:
        if not (self.lists or self.classifiers or self.api):
            raise ValueError("has no lists, no classifiers and no api: nothing would be checked")
        return self

    def checks(self, stage: Stage) -> bool:
        """Is there anything to look for at this stage?"""
        checks: list[WordList | ClassifierOptions | API] = [*self.lists, *self.classifiers]
        if self.api is not None:
            checks.append(self.api)
        return any(stage in each.stages for each in checks)

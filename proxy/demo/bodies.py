"""The bodies that the embedded upstream takes, and what it says of those it does not.

Every body may have a field `demo`, which asks for what a test needs and a good upstream seldom
does: its keys are those of `Wishes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from proxy import strictjson
from proxy.quantities import Seconds

from .errors import UpstreamError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class _Body(BaseModel):
    # Strict, because the real API takes no "5" for a 5; what is unknown here may be known there.
    model_config = ConfigDict(strict=True, extra="ignore")


class Wishes(_Body):
    """The field `demo`: what is to go wrong, or to take long."""

    model_config = ConfigDict(extra="forbid")

    error: Annotated[int, Field(ge=400, le=599)] | None = None
    """Answer with this status."""
    message: str | None = None
    """The message of that error."""
    code: str | None = None
    """The code of that error."""
    retry_after: Seconds | None = None
    """The `Retry-After` of that error."""
    error_after: Annotated[int, Field(ge=0)] | None = None
    """Begin a stream, and report the error in it after so many chunks."""
    break_after: Annotated[int, Field(ge=0)] | None = None
    """Close the connection after so many chunks of a stream, or amid an answer in one piece."""
    first_byte_delay: Seconds = 0
    """Wait before the answer begins."""
    delay: Seconds = 0
    """Wait before each chunk of a stream."""
    usage: bool = True
    """False: say nothing of tokens."""

    def failure(self) -> UpstreamError:
        """The error that is wished for."""
        status = self.error or 500
        return UpstreamError(status, self.message, code=self.code, retry_after=self.retry_after)


def _several(value: Any) -> Any:
    """One stands for a list of one."""
    return value if isinstance(value, list) or value is None else [value]


Several = Annotated[list[str], BeforeValidator(_several)]


class Request(_Body):
    """What the bodies of all endpoints have."""

    model: Annotated[str, Field(min_length=1)]
    demo: Wishes = Wishes()


class _Called(_Body):
    id: str


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    tool_calls: Annotated[list[_Called], Field(min_length=1)] | None = None
    tool_call_id: str | None = None


class Function(_Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Tool(_Body):
    type: Literal["function"]
    function: Function


class ResponseFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] = {}


class StreamOptions(_Body):
    include_usage: bool = False


class Chat(Request):
    """The body of a chat completion, as far as this upstream cares."""

    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[Several, Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(min_length=1)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


class Embeddings(Request):
    input: Annotated[list[Any], BeforeValidator(_several), Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=4096)] | None = None


class Moderations(Request):
    model: str = "omni-moderation-latest"
    input: Annotated[list[Any], BeforeValidator(_several), Field(min_length=1)]


R = TypeVar("R", bound=Request)


def decode(data: bytes) -> dict[str, Any]:
    """The JSON object of a body.  UpstreamError if it is none."""
    try:
        return strictjson.decode_object(data)
    except strictjson.JSONError as error:
        raise UpstreamError(400, f"We could not parse the JSON body: {error}") from None


def checked(model: type[R], body: dict[str, Any]) -> R:
    """The body as one of the above.  UpstreamError for the first thing that is wrong with it."""
    try:
        request = model.model_validate(body)
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)[0]) from None
    if isinstance(request, Chat):
        _check_calls(request.messages)
        if request.stream_options is not None and not request.stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise UpstreamError(400, message, param="stream_options")
    return request


def _invalid(error: ErrorDetails) -> UpstreamError:
    param = ""
    for part in error["loc"]:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else part
    if error["type"] == "missing":
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    elif error["type"] == "extra_forbidden":
        message, code = f"Unknown parameter: '{param}'.", "unknown_parameter"
    else:
        code = "invalid_type" if error["type"].endswith("_type") else "invalid_value"
        reason = error["msg"].removeprefix("Value error, ")
        message = f"Invalid {code.removeprefix('invalid_')} for '{param}': {reason}."
    return UpstreamError(400, message, code=code, param=param)


def _check_calls(messages: list[Message]) -> None:
    """Every call of a tool is followed by its result, and every result follows its call."""
    open_calls: list[str] = []
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                text = "messages with role 'tool' must follow a message with its 'tool_calls'."
                raise UpstreamError(400, f"Invalid parameter: {text}", param=f"messages[{at}].role")
            open_calls.remove(message.tool_call_id)
            continue
        _refuse_open(open_calls)
        open_calls = [call.id for call in message.tool_calls or ()]
    _refuse_open(open_calls)


def _refuse_open(calls: list[str]) -> None:
    if calls:
        message = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            f"to each 'tool_call_id'. These had no response messages: {', '.join(calls)}"
        )
        raise UpstreamError(400, message, param="messages")

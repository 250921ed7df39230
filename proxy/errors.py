"""The errors that somebody catches.

    ConfigError                      the configuration cannot be used; exit code 2
    PluginContractError              a plugin broke its contract; a bug, never the client's fault
    APIError                         the client is told, in OpenAI's shape
    ├── InvalidRequest        400    invalid_request_error
    │   └── ContentRejected   400    content_policy_violation
    ├── Unauthorized          401    invalid_api_key
    ├── EndpointNotGuarded    403    endpoint_not_guarded
    ├── ModelNotAllowed       403    model_not_found
    ├── NotFound              404    unknown_url
    ├── MethodNotAllowed      405    method_not_allowed
    ├── RequestTimeout        408    request_timeout
    ├── Conflict              409    conflict
    ├── BodyTooLarge          413    request_too_large
    ├── UnsupportedEncoding   415    unsupported_content_encoding
    ├── RateLimited           429    rate_limit_exceeded
    ├── InternalError         500    internal_error
    ├── UpstreamUnreachable   502    upstream_unreachable
    ├── UpstreamInvalid       502    upstream_invalid
    ├── UpstreamTruncated     502    upstream_truncated
    ├── PluginUnavailable     503    plugin_unavailable
    ├── KeysUnavailable       503    keys_unavailable
    ├── Overloaded            503    overloaded
    ├── ShuttingDown          503    shutting_down
    └── UpstreamTimeout       504    upstream_timeout

An error of the upstream is not among them: it goes to the client as it came.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConfigError(Exception):
    """The configuration cannot be used.  A problem is one line: where, what, and what was meant."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class PluginContractError(RuntimeError):
    """A plugin broke its contract: it returned nothing, or called `call_next` twice."""


class APIError(Exception):
    """A refusal or failure the client is meant to see, in OpenAI's error shape."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    level: ClassVar[int] = logging.INFO

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reported_code = code or self.code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer; also the payload of an error event in a stream."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.reported_code,
            }
        }


class InvalidRequest(APIError):
    status, type = 400, "invalid_request_error"


class ContentRejected(InvalidRequest):
    code = "content_policy_violation"


class Unauthorized(APIError):
    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class EndpointNotGuarded(APIError):
    status, type, code = 403, "invalid_request_error", "endpoint_not_guarded"


class ModelNotAllowed(APIError):
    # As OpenAI answers a project whose settings leave the model out.
    status, type, code = 403, "invalid_request_error", "model_not_found"


class NotFound(APIError):
    status, type, code = 404, "invalid_request_error", "unknown_url"


class MethodNotAllowed(APIError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(APIError):
    status, type, code = 408, "invalid_request_error", "request_timeout"


class Conflict(APIError):
    status, type, code = 409, "invalid_request_error", "conflict"


class BodyTooLarge(APIError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedEncoding(APIError):
    status, type, code = 415, "invalid_request_error", "unsupported_content_encoding"


class RateLimited(APIError):
    status, type, code = 429, "requests", "rate_limit_exceeded"


class InternalError(APIError):
    status, code, level = 500, "internal_error", logging.ERROR


class UpstreamUnreachable(APIError):
    status, code, level = 502, "upstream_unreachable", logging.WARNING


class UpstreamInvalid(APIError):
    status, code, level = 502, "upstream_invalid", logging.WARNING


class UpstreamTruncated(APIError):
    status, code, level = 502, "upstream_truncated", logging.WARNING


class PluginUnavailable(APIError):
    status, code, level = 503, "plugin_unavailable", logging.ERROR


class KeysUnavailable(APIError):
    status, code, level = 503, "keys_unavailable", logging.WARNING


class Overloaded(APIError):
    status, code, level = 503, "overloaded", logging.WARNING


class ShuttingDown(APIError):
    status, code = 503, "shutting_down"


class UpstreamTimeout(APIError):
    status, code, level = 504, "upstream_timeout", logging.WARNING

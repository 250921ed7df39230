"""The errors of the embedded upstream, in the shape and the words of the real one."""

from __future__ import annotations

from typing import Any, NamedTuple


class _Known(NamedTuple):
    type: str
    code: str | None
    message: str


_INVALID = "invalid_request_error"
_KNOWN = {
    401: _Known(_INVALID, "invalid_api_key", "Incorrect API key provided."),
    403: _Known(_INVALID, "unsupported_country_region_territory", "Country not supported."),
    404: _Known(_INVALID, "model_not_found", "The model does not exist."),
    429: _Known("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    503: _Known("service_unavailable_error", None, "The engine is currently overloaded."),
}
_REFUSED = _Known(_INVALID, None, "The request was refused.")
_FAILED = _Known("server_error", None, "The server had an error while processing your request.")


class UpstreamError(Exception):
    """An error in place of an answer.  What is not said is what the real API says."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self._known = _KNOWN.get(status, _REFUSED if status < 500 else _FAILED)
        self.message = message or self._known.message
        self.code = code or self._known.code
        self.param = param
        self.retry_after = retry_after
        super().__init__(f"{status} {self.message}")

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after is None:
            return {}
        milliseconds = round(self.retry_after * 1e3)
        return {"Retry-After": f"{self.retry_after:g}", "retry-after-ms": str(milliseconds)}

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer; also the payload of an error event in a stream."""
        error = {"message": self.message, "type": self._known.type}
        return {"error": {**error, "param": self.param, "code": self.code}}

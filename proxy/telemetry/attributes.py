"""What spans say of an exchange.  Pure; names from `conventions`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .content import captured_input, captured_output
from .conventions import CACHE_WRITE, PROVIDER_ERRORS, REQUEST_FIELDS, RESPONSE_FIELDS
from .metrics import usage_source

if TYPE_CHECKING:
    from proxy.exchange import Attempt, Exchange, Mark
    from proxy.settings import Telemetry

CLIENT_GONE = "client_disconnected"


class SpanAttributes:
    """The attributes of each kind of span, for one upstream and one set of settings."""

    def __init__(
        self, settings: Telemetry, *, provider: str, address: str, port: int, base_url: str
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._upstream = {"server.address": address, "server.port": port}
        self._base_url = base_url

    def server(self, exchange: Exchange, seconds: float) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "http.request.method": exchange.method,
            "url.scheme": "http",
            "url.path": exchange.path,
            "http.route": exchange.route,
            "http.response.status_code": exchange.status,
            "network.protocol.version": "1.1",
            **exchange.client,
        }
        if exchange.status >= 500:
            attributes["error.type"] = error_type(exchange)
        if exchange.termination == "client_closed":
            attributes["dragoman.client.disconnected"] = True
        if exchange.caller is not None and exchange.caller.name is not None:
            attributes["dragoman.api_key.alias"] = exchange.caller.name
        if exchange.marks:
            attributes["dragoman.plugins"] = [f"{m.plugin}:{m.outcome}" for m in exchange.marks]
        if exchange.paced_seconds >= 0.001:
            attributes["dragoman.upstream.paced_ms"] = round(exchange.paced_seconds * 1e3, 3)
        if not exchange.is_chat:
            if (usage := exchange.facts.usage) is not None:
                attributes["dragoman.usage.input_tokens"] = usage.prompt_tokens
                attributes["dragoman.usage.output_tokens"] = usage.completion_tokens
            return attributes
        attributes["dragoman.response.source"] = exchange.source
        attributes["dragoman.stream"] = exchange.stream
        attributes["dragoman.overhead_ms"] = round(
            max(0.0, seconds - exchange.upstream_seconds) * 1e3, 3
        )
        if exchange.session is not None:
            attributes["session.id"] = exchange.session
        if exchange.saved_tokens:
            attributes["dragoman.tokens.saved"] = exchange.saved_tokens
        return attributes

    def plugin(self, mark: Mark) -> dict[str, Any]:
        attributes = {
            "dragoman.plugin.name": mark.plugin,
            "dragoman.plugin.phase": mark.phase,
            "dragoman.plugin.outcome": mark.outcome,
            **mark.attributes,
        }
        if mark.error_type is not None:
            attributes["error.type"] = mark.error_type
        return attributes

    def chat(self, exchange: Exchange) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._provider,
            "openai.api.type": "chat_completions",
            **self._upstream,
            **self._request(exchange),
        }
        for name, value in exchange.facts.response.items():
            attributes[RESPONSE_FIELDS[name]] = value
        if exchange.facts.finish_reasons:
            attributes["gen_ai.response.finish_reasons"] = exchange.facts.finish_reasons
        if exchange.first_chunk is not None and exchange.stream:
            attributes["gen_ai.response.time_to_first_chunk"] = exchange.first_chunk
        if exchange.session is not None:
            attributes["gen_ai.conversation.id"] = exchange.session
        attributes.update(self._usage(exchange))
        kind = error_type(exchange)
        if kind:
            attributes["error.type"] = kind
        if self._settings.capture_content:
            for captured in (captured_input, captured_output):
                with suppress(Exception):  # either side may say anything; the span matters more
                    attributes.update(captured(exchange, self._settings.content_max_chars))
        return attributes

    def _request(self, exchange: Exchange) -> dict[str, Any]:
        """The request as the upstream saw it, after plugins."""
        if exchange.sent is None:
            return {}
        field = exchange.sent.get
        attributes: dict[str, Any] = {}
        model = field("model")
        if isinstance(model, str):
            attributes["gen_ai.request.model"] = model
            if model != exchange.model:
                attributes["dragoman.model.requested"] = exchange.model or ""
        for name, attribute in REQUEST_FIELDS.items():
            value = field(name)
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                attributes[attribute] = value
        limit = field("max_completion_tokens") or field("max_tokens")
        if isinstance(limit, int):
            attributes["gen_ai.request.max_tokens"] = limit
        stop = field("stop")
        if isinstance(stop, str):
            attributes["gen_ai.request.stop_sequences"] = [stop]
        elif isinstance(stop, list) and all(isinstance(item, str) for item in stop) and stop:
            attributes["gen_ai.request.stop_sequences"] = stop
        choices = field("n")
        if isinstance(choices, int) and choices != 1:
            attributes["gen_ai.request.choice.count"] = choices
        if exchange.stream:
            attributes["gen_ai.request.stream"] = True
        form = field("response_format")
        if isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"):
            attributes["gen_ai.output.type"] = "json"
        return attributes

    def _usage(self, exchange: Exchange) -> dict[str, Any]:
        usage = exchange.facts.usage
        attributes: dict[str, Any] = {"dragoman.usage.source": usage_source(usage)}
        if usage is None:
            return attributes
        traced_by_client = exchange.trace is not None and exchange.trace.parent_id is not None
        ours = self._settings.genai_usage == "root_only" and traced_by_client
        prefix = "dragoman.usage." if ours else "gen_ai.usage."
        attributes[prefix + "input_tokens"] = usage.prompt_tokens
        attributes[prefix + "output_tokens"] = usage.completion_tokens
        cache_write = CACHE_WRITE[self._settings.semconv].removeprefix("gen_ai.usage.")
        for name, tokens in (
            ("cache_read.input_tokens", usage.cached_tokens),
            (cache_write, usage.cache_write_tokens),
            ("reasoning.output_tokens", usage.reasoning_tokens),
        ):
            if tokens:
                attributes[prefix + name] = tokens
        return attributes

    def attempt(self, exchange: Exchange, attempt: Attempt, number: int) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "http.request.method": exchange.method,
            "url.full": self._base_url + exchange.path.removeprefix("/v1"),
            **self._upstream,
        }
        if number:
            attributes["http.request.resend_count"] = number
        if attempt.status is not None:
            attributes["http.response.status_code"] = attempt.status
            if attempt.status >= 400:
                attributes["error.type"] = str(attempt.status)
        if attempt.error_type is not None:
            attributes["error.type"] = attempt.error_type
        return attributes


def error_type(exchange: Exchange) -> str:
    """Why the exchange failed, in few enough words to be a label; "" if it did not fail."""
    if exchange.termination == "client_closed":
        return CLIENT_GONE
    if exchange.error is not None:
        return exchange.error.reported_code or type(exchange.error).__name__
    if exchange.upstream_error in PROVIDER_ERRORS:
        return str(exchange.upstream_error)
    return str(exchange.status) if exchange.status >= 400 else ""

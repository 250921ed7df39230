"""Prometheus metrics, under the names that OpenTelemetry's would be translated to.

Buckets are those of the conventions, with longer ones where a reasoning model needs them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from proxy import __version__

from .shared import of_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from proxy.exchange import Attempt, Exchange, Mark
    from proxy.usage import Usage

_HTTP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_OPERATION = tuple(0.01 * 2**n for n in range(17))  # 0.01 .. 655.36 s
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_TOKENS = tuple(4**n for n in range(14))  # 1 .. 67,108,864
_PLUGIN = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_OVERHEAD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each series, and nobody looks

MAX_MODELS = 100
"""Model names that get series of their own; clients type names, and each would live for ever."""


class Metrics:
    """All metrics of one process."""

    def __init__(
        self,
        provider: str,
        *,
        models: Sequence[str] = (),
        semconv: str = "1.41",
        shared: Path | None = None,
    ) -> None:
        """`shared` is the folder of `proxy.telemetry.shared`, where there are several processes."""
        self.registry = CollectorRegistry()
        self.exposed = of_all(shared) if shared else self.registry
        """What /metrics shows: of all processes, if there are several."""
        self._exemplar = _no_exemplar if shared else _exemplar
        self._provider = provider
        self._models = set(models)
        # A metric with its labels: labels() costs more than what is done with it.
        self._bound = cache(_bound)
        self._made: dict[str, Counter | Histogram] = {}

        def histogram(
            name: str, doc: str, labels: Sequence[str], buckets: Sequence[float]
        ) -> Histogram:
            return Histogram(name, doc, labels, registry=self.registry, buckets=buckets)

        def counter(name: str, doc: str, labels: Sequence[str]) -> Counter:
            return Counter(name, doc, labels, registry=self.registry)

        self.http_duration = histogram(
            "http_server_request_duration_seconds",
            "Requests as their clients saw them.",
            ("http_request_method", "http_route", "http_response_status_code"),
            (*_HTTP, 30, 60, 120, 300, 600),
        )
        self.active = self._gauge("http_server_active_requests", "Requests under way.")
        self.server_duration = histogram(
            "gen_ai_server_request_duration_seconds",
            "Chat completions as their clients saw them.",
            (*_GEN_AI, "error_type"),
            _OPERATION,
        )
        self.server_first = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request to the first bytes of its answer, as the client saw it.",
            _GEN_AI,
            (*_FIRST, 15, 20, 30, 60),
        )
        self.server_per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time for each token after the first, as the client saw it.",
            _GEN_AI,
            _PER_TOKEN,
        )
        self.client_duration = histogram(
            "gen_ai_client_operation_duration_seconds",
            "The upstream's part of chat completions.",
            (*_GEN_AI, "error_type"),
            _OPERATION,
        )
        self.client_first = histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From the call of the upstream to the first bytes of its answer.",
            _GEN_AI,
            (*_FIRST, 15, 20, 30, 60, 120, 300, 600),
        )
        self.token_usage = histogram(
            "gen_ai_client_token_usage",
            "Tokens of one chat completion.",
            (*_GEN_AI, "gen_ai_token_type"),
            _TOKENS,
        )
        self.usage_source = counter(
            "dragoman_usage_source",
            "Where the usage of chat completions comes from: upstream, estimated, none.",
            ("source",),
        )
        self.tokens = counter("dragoman_tokens", "Tokens.", ("gen_ai_request_model", "type"))
        self.saved = counter(
            "dragoman_tokens_saved", "Prompt tokens that were not sent.", ("plugin", "reason")
        )
        self.plugin_duration = histogram(
            "dragoman_plugin_duration_seconds",
            "A plugin's own time.",
            ("plugin", "phase", "outcome"),
            _PLUGIN,
        )
        self.plugin_failures = counter(
            "dragoman_plugin_failures", "Plugins that failed.", ("plugin", "on_error")
        )
        self.attempts = counter(
            "dragoman_upstream_attempts",
            "HTTP requests to the upstream: ok, 4xx, 429, 5xx, timeout, connect, other.",
            ("upstream", "outcome"),
        )
        self.paced = histogram(
            "dragoman_upstream_paced_seconds",
            "How long requests waited for their turn at the upstream: sent, refused, left.",
            ("outcome",),
            (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.overhead = histogram(
            "dragoman_overhead_duration_seconds",
            "Time of a chat completion that was not spent waiting for the upstream.",
            ("stream",),
            _OVERHEAD,
        )
        self.unguarded = counter(
            "dragoman_unguarded_requests",
            "Requests with messages on endpoints that the plugins do not see.",
            ("http_route", "decision"),
        )
        self.unmetered = counter(
            "dragoman_unmetered_answers",
            "Forwarded answers that should have been counted, and told no usage: coding, unreported.",
            ("http_route", "reason"),
        )
        self.count_error = histogram(
            "dragoman_token_count_error",
            "How far our count of a prompt was from the upstream's, in tokens.",
            ("gen_ai_request_model", "exactness"),
            (0, 1, 3, 10, 30, 100, 300, 1000),
        )
        self.loop_lag = Histogram(
            "dragoman_event_loop_lag_seconds",
            "How late the event loop was.",
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
        )
        self.spans = counter(
            "dragoman_telemetry_spans", "Spans: exported, failed, dropped.", ("result",)
        )
        self.log_lines_lost = counter(
            "dragoman_turn_log_lines_lost", "Turn log lines that stdout did not take in time.", ()
        )
        self.body_bytes = self._gauge(
            "dragoman_body_bytes_in_flight", "Bytes of chat completion bodies held in memory."
        )
        self.keys_stale = self._gauge(
            "dragoman_keys_stale_seconds",
            "For how long the store has not confirmed the keys that a process goes by; the longest.",
            among="livemax",
        )
        self.reloads = counter(
            "dragoman_config_reloads",
            "Times a process has read the configuration again: loaded, refused.",
            ("outcome",),
        )
        self.loaded = self._gauge(
            "dragoman_config_loaded_timestamp_seconds",
            "When the configuration in use was read; of several processes, the oldest.",
            among="livemin",
        )
        self.loaded.set_to_current_time()
        counter("dragoman_worker_starts", "Processes that have begun to serve.", ()).inc()
        self._gauge(
            "dragoman_build_info", "Always 1.", ("version", "semconv"), among="livemax"
        ).labels(__version__, semconv).set(1)

    def _gauge(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        among: Literal["livesum", "livemin", "livemax"] = "livesum",
    ) -> Gauge:
        """`among` is what becomes of the values of several processes."""
        return Gauge(name, documentation, labels, registry=self.registry, multiprocess_mode=among)

    # ---- for plugins

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """A counter `dragoman_{name}_total`, made once however many plugins ask for it."""
        made = self._made.get(name)
        if made is None:
            made = Counter(f"dragoman_{name}", documentation, labels, registry=self.registry)
            self._made[name] = made
        return made  # type: ignore[return-value]

    # ---- for exchanges

    def model(self, name: str | None, *, seen: bool = False) -> str:
        """The label of a model: its name if it is known or the upstream took it, else `other`."""
        if name is None:
            return "other"
        if name in self._models:
            return name
        if seen and len(self._models) < MAX_MODELS:
            self._models.add(name)
            return name
        return "other"

    def observe(self, exchange: Exchange, seconds: float, error_type: str) -> None:
        """An exchange has ended, and its tokens are known."""
        method = exchange.method if exchange.method in _METHODS else "_OTHER"
        exemplar = self._exemplar(exchange)
        duration = self._bound(self.http_duration, method, exchange.route, str(exchange.status))
        duration.observe(seconds, exemplar)
        for attempt in exchange.attempts:
            outcome = _attempt_outcome(attempt)
            self._bound(self.attempts, self._provider, outcome).inc()
        if exchange.is_chat:
            model = self.model(exchange.model, seen=exchange.status == 200)
            self._observe_chat(exchange, seconds, model, error_type)
            self._observe_usage(exchange, seconds, model)
        elif (usage := exchange.facts.usage) is not None:
            self._bound(self.usage_source, usage_source(usage)).inc()
            self._count_tokens(self.model(exchange.model, seen=True), usage)
        for mark in exchange.marks:
            self._observe_plugin(mark)

    def _observe_chat(
        self, exchange: Exchange, seconds: float, model: str, error_type: str
    ) -> None:
        gen_ai, exemplar = ("chat", self._provider, model), self._exemplar(exchange)
        self._bound(self.server_duration, *gen_ai, error_type).observe(seconds, exemplar)
        overhead = max(0.0, seconds - exchange.upstream_seconds)
        self._bound(self.overhead, "true" if exchange.stream else "false").observe(overhead)
        first = exchange.first_chunk if exchange.stream else None
        if first is not None:
            self._bound(self.server_first, *gen_ai).observe(first, exemplar)
        if exchange.attempts:
            start_ns = exchange.attempts[0].start_ns
            upstream = max(0, exchange.attempts[-1].end_ns - start_ns) / 1e9
            self._bound(self.client_duration, *gen_ai, error_type).observe(upstream, exemplar)
            if first is not None:
                before = (start_ns - exchange.start_ns) / 1e9
                self._bound(self.client_first, *gen_ai).observe(max(0.0, first - before))

    def _observe_usage(self, exchange: Exchange, seconds: float, model: str) -> None:
        usage = exchange.facts.usage
        self._bound(self.usage_source, usage_source(usage)).inc()
        if usage is None or exchange.sent is None:
            return
        gen_ai = ("chat", self._provider, model)
        self._bound(self.token_usage, *gen_ai, "input").observe(usage.prompt_tokens)
        self._bound(self.token_usage, *gen_ai, "output").observe(usage.completion_tokens)
        self._count_tokens(model, usage)
        if exchange.stream and exchange.first_chunk is not None and usage.completion_tokens > 1:
            per_token = (seconds - exchange.first_chunk) / (usage.completion_tokens - 1)
            self._bound(self.server_per_token, *gen_ai).observe(per_token)

    def _count_tokens(self, model: str, usage: Usage) -> None:
        for kind, tokens in (
            ("input", usage.prompt_tokens),
            ("output", usage.completion_tokens),
            ("cache_read", usage.cached_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self._bound(self.tokens, model, kind).inc(tokens)

    def _observe_plugin(self, mark: Mark) -> None:
        self._bound(self.plugin_duration, mark.plugin, mark.phase, mark.outcome).observe(
            mark.own_seconds
        )
        if mark.outcome == "error":
            on_error = mark.attributes.get("dragoman.plugin.on_error", "")
            self._bound(self.plugin_failures, mark.plugin, on_error).inc()


def _bound(metric: Counter | Histogram, *labels: str) -> Any:
    return metric.labels(*labels)


_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


def usage_source(usage: Usage | None) -> str:
    if usage is None:
        return "none"
    return "upstream" if usage.exact else "estimated"


def _attempt_outcome(attempt: Attempt) -> str:
    if attempt.error_type is not None:
        known = {"upstream_timeout": "timeout", "upstream_unreachable": "connect"}
        return known.get(attempt.error_type, "other")
    status = attempt.status
    if status is None:
        return "other"
    if status < 400:
        return "ok"
    if status == 429:
        return "429"
    return "5xx" if status >= 500 else "4xx"


def _exemplar(exchange: Exchange) -> dict[str, str] | None:
    trace = exchange.trace
    return {"trace_id": f"{trace.trace_id:032x}"} if trace is not None and trace.sampled else None


def _no_exemplar(exchange: Exchange) -> None:  # in the place of _exemplar
    """Files hold none."""

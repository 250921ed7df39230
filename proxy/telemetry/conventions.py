"""The names we write, in one table.

OpenTelemetry's conventions for generative AI are still in development; version 1.41 and the next
one differ in few names, and `telemetry.semconv` switches just those.
https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

CACHE_WRITE = {
    "1.41": "gen_ai.usage.cache_creation.input_tokens",
    "next": "gen_ai.usage.cache_write.input_tokens",
}

REQUEST_FIELDS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "service_tier": "openai.request.service_tier",
}
"""Fields of a request whose value is an attribute of the same type."""

RESPONSE_FIELDS = {
    "id": "gen_ai.response.id",
    "model": "gen_ai.response.model",
    "service_tier": "openai.response.service_tier",
    "system_fingerprint": "openai.response.system_fingerprint",
}

PROVIDER_ERRORS = frozenset(
    {
        "billing_hard_limit_reached",
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "rate_limit_exceeded",
        "server_error",
        "unsupported_parameter",
        "unsupported_value",
    }
)
"""Error codes of upstreams that may become an `error.type`; any other could be of any number."""

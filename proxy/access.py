"""Which models a key may ask, where its settings name some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ModelNotAllowed
from .patterns import fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aiohttp import web

    from .exchange import Caller

# Where a request's model is a field of its JSON body, and nowhere else.
_BY_BODY = frozenset(
    (
        *("/v1/responses", "/v1/completions", "/v1/embeddings"),
        *("/v1/images/generations", "/v1/audio/speech", "/v1/moderations"),
    )
)
_READING = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
_QUOTED = 100
"""Characters of a model's name that a message quotes."""


def check(caller: Caller, body: Mapping[str, Any]) -> None:
    """ModelNotAllowed if a body asks for a model that is none of the caller's."""
    if not caller.models:
        return
    for model in list(_asked(body)) or [""]:
        if not isinstance(model, str) or not fits(model, caller.models):
            named = (
                f"model `{model[:_QUOTED]}`" if model and isinstance(model, str) else "such a model"
            )
            raise ModelNotAllowed(f"This API key does not have access to {named}.")


def asks_no_model(http: web.BaseRequest) -> bool:
    """Whether a forwarded request only reads or deletes.  (A WebSocket begins as a GET.)"""
    return http.method in _READING and not http.body_exists and "Upgrade" not in http.headers


def check_path(path: str) -> None:
    """ModelNotAllowed if nobody knows where in a forwarded request its model stands."""
    if path not in _BY_BODY:
        raise ModelNotAllowed(
            "This API key may ask certain models only, and here the proxy does not see the model."
        )


def _asked(body: Mapping[str, Any]) -> Iterator[Any]:
    """All models that an upstream may find in a body.

    Some servers read names of fields in any case, and OpenRouter takes a list of `models`.
    """
    for name, value in body.items():
        if name.casefold() == "models" and isinstance(value, list) and value:
            yield from value
        elif name.casefold() in ("model", "models"):
            yield value

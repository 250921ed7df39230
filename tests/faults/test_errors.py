"""Every error that a client may see: its status, its shape, its level, and what the SDK makes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import openai
import pytest

from proxy.errors import APIError, ConfigError, PluginContractError
from proxy.plugin import RateLimited
from tests.support.plugins import plugin
from tests.support.raw import ask_chat

if TYPE_CHECKING:
    from collections.abc import Iterator


def subclasses(error: type[APIError] = APIError) -> Iterator[type[APIError]]:
    for each in error.__subclasses__():
        if each.__module__ == "proxy.errors":
            yield each
            yield from subclasses(each)


SERVER, REQUEST = "server_error", "invalid_request_error"
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
TABLE = {
    "InvalidRequest": (400, REQUEST, None, INFO, openai.BadRequestError),
    "ContentRejected": (400, REQUEST, "content_policy_violation", INFO, openai.BadRequestError),
    "Unauthorized": (401, REQUEST, "invalid_api_key", INFO, openai.AuthenticationError),
    "EndpointNotGuarded": (
        403,
        REQUEST,
        "endpoint_not_guarded",
        INFO,
        openai.PermissionDeniedError,
    ),
    "ModelNotAllowed": (403, REQUEST, "model_not_found", INFO, openai.PermissionDeniedError),
    "NotFound": (404, REQUEST, "unknown_url", INFO, openai.NotFoundError),
    "MethodNotAllowed": (405, REQUEST, "method_not_allowed", INFO, openai.APIStatusError),
    "RequestTimeout": (408, REQUEST, "request_timeout", INFO, openai.APIStatusError),
    "Conflict": (409, REQUEST, "conflict", INFO, openai.ConflictError),
    "BodyTooLarge": (413, REQUEST, "request_too_large", INFO, openai.APIStatusError),
    "UnsupportedEncoding": (
        415,
        REQUEST,
        "unsupported_content_encoding",
        INFO,
        openai.APIStatusError,
    ),
    "RateLimited": (429, "requests", "rate_limit_exceeded", INFO, openai.RateLimitError),
    "InternalError": (500, SERVER, "internal_error", ERROR, openai.InternalServerError),
    "UpstreamUnreachable": (
        502,
        SERVER,
        "upstream_unreachable",
        WARNING,
        openai.InternalServerError,
    ),
    "UpstreamInvalid": (502, SERVER, "upstream_invalid", WARNING, openai.InternalServerError),
    "UpstreamTruncated": (502, SERVER, "upstream_truncated", WARNING, openai.InternalServerError),
    "PluginUnavailable": (503, SERVER, "plugin_unavailable", ERROR, openai.InternalServerError),
    "KeysUnavailable": (503, SERVER, "keys_unavailable", WARNING, openai.InternalServerError),
    "Overloaded": (503, SERVER, "overloaded", WARNING, openai.InternalServerError),
    "ShuttingDown": (503, SERVER, "shutting_down", INFO, openai.InternalServerError),
    "UpstreamTimeout": (504, SERVER, "upstream_timeout", WARNING, openai.InternalServerError),
}
EVERY = list(subclasses())


def names(errors: list[type[APIError]]) -> list[str]:
    return [error.__name__ for error in errors]


def raising(folder, error: type[APIError], where: str = "") -> str:
    code = f"""
    from proxy.errors import {error.__name__}
    failure = {error.__name__}("Something is the matter.", param="messages", headers={{"X-Why": "so"}})
    async def transform(chunks):
        async for chunk in chunks:
            yield chunk
            raise failure
    """
    handle = "raise failure"
    if where == "stream":
        handle = "return (await call_next(request)).map_chunks(transform)"
    return plugin(folder, code + f"{handle}\n")


def test_the_table_holds_every_error():
    assert sorted(names(EVERY)) == sorted(TABLE)


def test_there_are_three_roots():
    for error in (ConfigError, PluginContractError):
        assert not issubclass(error, APIError)


@pytest.mark.parametrize("error", EVERY, ids=names(EVERY))
@pytest.mark.expects_internal_error
async def test_an_error_has_its_status_shape_and_level(proxy, upstream, tmp_path, error, caplog):
    status, kind, code, level, _ = TABLE[error.__name__]
    running = await proxy((await upstream()).url, raising(tmp_path, error))
    caplog.set_level(logging.DEBUG, "dragoman")
    answer = await ask_chat(running)
    assert answer.status == status
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-Why") == "so"
    assert answer.json == {
        "error": {
            "message": "Something is the matter.",
            "type": kind,
            "param": "messages",
            "code": code,
        }
    }
    turn = (await running.turns())[0]
    assert answer.header("x-request-id") == turn["request_id"]
    assert (turn["status"], turn["termination"]) == (status, code or "refused")
    lines = [r for r in caplog.records if r.name == "dragoman.edge"]
    assert [r.levelno for r in lines] == ([level] if level >= WARNING else [])
    assert "matter" not in caplog.text  # a message may quote what it is about


@pytest.mark.parametrize("error", EVERY, ids=names(EVERY))
@pytest.mark.expects_internal_error
async def test_the_openai_client_raises_its_own_exception_for_it(proxy, upstream, tmp_path, error):
    expected = TABLE[error.__name__][4]
    running = await proxy((await upstream()).url, raising(tmp_path, error))
    async with running.client() as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]
            )
    assert type(raised.value) is expected
    assert raised.value.code == error.code
    assert raised.value.type == error.type
    assert raised.value.param == "messages"
    assert raised.value.request_id


@pytest.mark.parametrize("error", EVERY, ids=names(EVERY))
@pytest.mark.expects_internal_error
async def test_the_openai_client_raises_for_an_error_inside_a_stream(
    proxy, upstream, tmp_path, error
):
    toml = raising(tmp_path, error, "stream")
    running = await proxy((await upstream()).url, f"telemetry.estimate_usage = false\n{toml}")
    async with running.client() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="Something is the matter") as raised:
            async for _ in stream:
                pass
    assert raised.value.code == error.code


async def test_a_limited_client_is_told_when_to_come_back(proxy, upstream, tmp_path):
    code = """
    headers = {"Retry-After": "7", "retry-after-ms": "7000", "x-ratelimit-remaining-requests": "0"}
    raise RateLimited("Too many.", headers=headers)
    """
    running = await proxy((await upstream()).url, plugin(tmp_path, code))
    answer = await ask_chat(running)
    assert answer.status == RateLimited.status
    assert answer.header("Retry-After") == "7"
    assert answer.header("retry-after-ms") == "7000"
    assert answer.header("x-ratelimit-remaining-requests") == "0"


async def test_the_openai_client_tries_again_when_we_say_that_it_may(proxy, upstream, tmp_path):
    code = """
    from proxy.errors import Overloaded
    from tests.support.plugins import told
    told.append("asked")
    if len(told) < 3:
        raise Overloaded("Not now.", headers={"Retry-After": "0"})
    return await call_next(request)
    """
    running = await proxy((await upstream()).url, plugin(tmp_path, code))
    async with running.client(max_retries=2) as client:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]
        )
    assert answer.choices[0].message.content == "Hello."

"""The harness shows authors what their plugin does, as a real proxy would have it."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import openai
import pytest

from proxy.errors import ConfigError
from proxy.plugin import ContentRejected, Options, Plugin, answer
from proxy.testing import UpstreamError, plugin_test

SHOUT = """
from proxy.plugin import Plugin

class Shout(Plugin):
    async def handle(self, request, call_next):
        return (await call_next(request)).map_text(str.upper)
"""


class Pass(Plugin[Options]):
    pass


class PoliteOptions(Options):
    word: str = "please"


class Polite(Plugin[PoliteOptions]):
    """Changes the request."""

    Config = PoliteOptions

    async def handle(self, request, call_next):
        *earlier, newest = request.messages
        asked = {**newest, "content": f"{newest['content']}, {self.config.word}"}
        return await call_next(request.replace(messages=[*earlier, asked]))


class Shout(Plugin[Options]):
    """Changes the answer."""

    async def handle(self, request, call_next):
        return (await call_next(request)).map_text(str.upper)


class Both(Plugin[Options]):
    """Changes the request and the answer."""

    async def handle(self, request, call_next):
        return (await call_next(request.replace(seed=1))).map_text(str.upper)


class Hours(Plugin[Options]):
    """Answers itself."""

    async def handle(self, request, call_next):
        return answer(request, "We open at nine.")


class Guard(Plugin[Options]):
    """Refuses."""

    async def handle(self, request, call_next):
        if "secret" in request.messages[-1]["content"]:
            raise ContentRejected("Not that.", param="messages")
        return await call_next(request)


class Clumsy(Plugin[Options]):
    async def handle(self, request, call_next):
        raise ZeroDivisionError


both_forms = pytest.mark.parametrize("stream", [False, True])


@both_forms
async def test_a_plugin_that_passes_leaves_request_and_answer_alone(stream):
    async with plugin_test(Pass, reply="hello") as test:
        assert await test.ask("Say hello", stream=stream) == "hello"
        assert test.sent[-1]["messages"] == [{"role": "user", "content": "Say hello"}]
        assert await test.outcomes() == {"Pass": "pass"}


async def test_a_changed_request_is_seen_where_it_was_sent():
    async with plugin_test(Polite) as test:
        assert "“Say hello, please”" in await test.ask("Say hello")
        assert test.sent[-1]["messages"] == [{"role": "user", "content": "Say hello, please"}]
        assert await test.outcomes() == {"Polite": "modify"}


@both_forms
async def test_a_changed_answer_is_seen_by_the_client(stream):
    async with plugin_test(Shout, reply="hello you") as test:
        assert await test.ask("Say hello", stream=stream) == "HELLO YOU"
        assert await test.outcomes() == {"Shout": "modify"}


@both_forms
async def test_a_plugin_has_one_outcome_although_it_acts_twice(stream):
    async with plugin_test(Both, reply="hello") as test:
        assert await test.ask("Say hello", stream=stream) == "HELLO"
        assert test.sent[-1]["seed"] == 1
        assert len((await test.turn()).plugins) == 2
        assert await test.outcomes() == {"Both": "modify"}


@both_forms
async def test_a_plugin_that_answers_itself_leaves_the_upstream_in_peace(stream):
    async with plugin_test(Hours) as test:
        assert await test.ask("When do you open?", stream=stream) == "We open at nine."
        assert test.sent == []
        assert await test.outcomes() == {"Hours": "respond"}


async def test_a_refusal_is_the_clients_exception():
    async with plugin_test(Guard, reply="yes") as test:
        with pytest.raises(openai.BadRequestError, match="Not that") as raised:
            await test.ask("Tell me the secret")
        assert raised.value.param == "messages"
        assert await test.outcomes() == {"Guard": "reject"}
        assert await test.ask("Tell me the time") == "yes"
        assert await test.outcomes() == {"Guard": "pass"}


async def test_a_plugin_that_fails_is_told_apart_from_one_that_refuses():
    async with plugin_test(Clumsy) as test:
        with pytest.raises(openai.InternalServerError, match="is unavailable"):
            await test.ask("Hi")
        assert await test.outcomes() == {"Clumsy": "error"}


async def test_options_are_those_of_the_plugins_table():
    options = 'name = "kind"\nword = "darling"\n[plugins.match]\nmodels = ["gpt-4o*"]'
    async with plugin_test(Polite, options) as test:
        await test.ask("Say hello")
        assert test.sent[-1]["messages"][-1]["content"] == "Say hello, darling"
        assert await test.outcomes() == {"kind": "modify"}
        await test.ask("Say hello", model="other")
        assert test.sent[-1]["messages"][-1]["content"] == "Say hello"
        assert await test.outcomes() == {}


async def test_a_wrong_option_is_told_as_an_operator_would_be():
    with pytest.raises(ConfigError, match=re.escape("unknown key 'wort'; did you mean 'word'?")):
        async with plugin_test(Polite, 'wort = "x"'):
            pass


async def test_a_text_is_the_whole_configuration_with_files_seen_from_its_folder(tmp_path):
    (tmp_path / "shout.py").write_text(SHOUT)
    toml = """
        [[plugins]]
        use = "./shout.py:Shout"
        name = "shout"

        [[plugins]]
        use = "sampling"
        overrides = { seed = 7 }
    """
    async with plugin_test(toml, folder=tmp_path, reply="hello") as test:
        assert await test.ask("Say hello") == "HELLO"
        assert test.sent[-1]["seed"] == 7
        assert await test.outcomes() == {"shout": "modify", "sampling": "modify"}


async def test_a_reply_may_be_made_of_the_body_and_may_change_during_a_test():
    async with plugin_test(Pass, reply=lambda body: body["model"]) as test:
        assert await test.ask("Hi", model="m") == "m"
        test.reply = "something else"
        assert await test.ask("Hi", model="m") == "something else"


async def test_a_reply_may_call_tools():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with plugin_test(Pass, reply={"content": None, "tool_calls": [call]}) as test:
        answered: Any = await test.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}]
        )
    assert answered.choices[0].finish_reason == "tool_calls"
    assert answered.choices[0].message.tool_calls[0].function.name == "f"


@both_forms
async def test_a_reply_may_be_an_error_of_the_upstream(stream):
    async with plugin_test(Shout, reply=UpstreamError(429, "Slow down", retry_after=2)) as test:
        with pytest.raises(openai.RateLimitError, match="Slow down") as raised:
            await test.ask("Hi", stream=stream)
        assert raised.value.response.headers["retry-after"] == "2"
        assert len(test.sent) == 1
        assert await test.outcomes() == {"Shout": "pass"}


async def test_a_stream_breaks_on_demand():
    async with plugin_test(Shout, reply="a b c d e f") as test:
        with pytest.raises(openai.APIError):
            await test.ask("Hi", stream=True, extra_body={"demo": {"break_after": 3}})
        assert (await test.turn()).termination == "upstream_truncated"


async def test_a_turn_tells_tokens_and_who_answered():
    async with plugin_test(Hours) as test:
        said = await test.ask("When do you open?", model="gpt-4o")
        turn = await test.turn()
    assert said == "We open at nine."
    assert (turn.model, turn.source, turn.completion_tokens) == ("gpt-4o", "Hours", 5)


async def test_all_messages_may_be_given():
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    async with plugin_test(Pass) as test:
        await test.ask(messages)
        assert test.sent[-1]["messages"] == messages


async def test_other_clients_find_the_proxy_too():
    async with plugin_test(Shout, reply="hello") as test, aiohttp.ClientSession() as http:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        async with http.post(f"{test.base_url}/chat/completions", json=body) as response:
            answered = await response.json()
        assert answered["choices"][0]["message"]["content"] == "HELLO"
        assert await test.outcomes() == {"Shout": "modify"}


async def test_the_environment_decides_nothing(monkeypatch):
    monkeypatch.setenv("DRAGOMAN_SERVER__PORT", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with plugin_test(Pass, reply="hello") as test:
        assert await test.ask("Hi") == "hello"
        assert (await test.turn()).trace_id is None


async def test_a_plugin_that_does_not_start_is_the_tests_failure():
    class Late(Plugin[Options]):
        async def start(self):
            raise OSError("no model file")

    with pytest.raises(ConfigError, match="OSError: no model file"):
        async with plugin_test(Late):
            pass

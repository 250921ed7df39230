"""The usage of a stream: asked for where the client did not, and nowhere to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.anything import cut, cuts
from tests.support.upstream import chat, chunks
from tests.support.wire import chunked, connected, fetch

if TYPE_CHECKING:
    from tests.support.proxy import RunningProxy

CHAT = "/v1/chat/completions"
PLAIN = b'{"model":"m","messages":[],"stream":true}'
ASKED = b'"stream_options":{"include_usage":true}'
USAGE = b'"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}'
DONE = b"data: [DONE]\n\n"


async def ask(running, body=PLAIN):
    return await fetch(running.base_url, "POST", CHAT, body=body)


# ---- what the upstream is asked


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (PLAIN, PLAIN[:-1] + b"," + ASKED + b"}"),
        (b'{ "stream" : true ,\n"n": 1.0 }\n', b'{ "stream" : true ,\n"n": 1.0 ,%b}\n' % ASKED),
        (
            b'{"stream_options":{"include_obfuscation": false},"stream":true}',
            b'{"stream_options":{"include_obfuscation":false,"include_usage":true},"stream":true}',
        ),
        (b'{"stream":true, "stream_options" : {} }', b'{"stream":true, "stream_options" : %b }'
         % ASKED.removeprefix(b'"stream_options":')),
        (b'{"stream_options":null,"stream":true}', b'{%b,"stream":true}' % ASKED),
    ],
    ids=["none", "none, with spaces", "others", "empty", "null"],
)  # fmt: skip
async def test_usage_is_asked_for_and_nothing_else_is_changed(proxy, upstream, body, sent):
    up = await upstream()
    await ask(await proxy(up.url), body)
    assert up.calls[0].body == sent


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,%b}' % ASKED,
        b'{"stream":true,"stream_options":{"include_usage": false, "x":1}}',
        b'{"stream":true,"stream_options":[]}',
        b'{"stream":false}',
        b'{"stream":null}',
        b'{"stream":"true"}',
        b'{"messages":[{"stream":true}]}',
        b'{"model":"a","model":"b","stream":true}',
    ],
)
async def test_a_client_that_says_itself_what_it_wants_is_asked_for_nothing_more(
    proxy, upstream, body
):
    up = await upstream(lambda call: call.answer())
    await ask(await proxy(up.url), body)
    assert up.calls[0].body == body


async def test_an_operator_can_have_the_text_counted_instead(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url, 'upstream.stream_usage = "count"\n')
    answer = await ask(running)
    assert up.calls[0].body == PLAIN
    assert answer.body == b"".join(chunks("Hello.", {}))
    turn = (await running.turns())[0]
    assert turn["usage_source"] == "estimated"
    assert turn["completion_tokens"] > 0


# ---- what the client sees


async def test_the_client_sees_what_it_would_see_had_nobody_asked(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    answer = await ask(running)
    assert answer.body == b"".join(chunks("Hello.", {}))
    turn = (await running.turns())[0]
    assert (turn["usage_source"], turn["prompt_tokens"]) == ("upstream", 9)


async def test_a_client_that_asks_sees_the_usage(proxy, upstream):
    up = await upstream()
    body = b'{"stream":true,%b}' % ASKED
    answer = await ask(await proxy(up.url), body)
    assert answer.body == b"".join(chunks("Hello.", msgspec.json.decode(body)))
    assert USAGE in answer.body


# A chunk as it would be, and where its upstream puts the key that comes with the usage.
CHUNKS = (
    (b'{"id":"c","choices":[{"delta":{"content":"H\xc3\xa9"}}]', b',"usage":null', b"}"),
    (b'{"choices":[{"delta":{},"finish_reason":"stop"}]', b',"usage":null', b',"x":1.0}'),
    (b'{"choices":[]', b',"usage":null', b',"obfuscation":"aGk"}'),
    (b'{"choices" : [ {"delta": {"content" : "a"}} ]', b', "usage": null', b"}"),
    (b'{ "id":"c"', b', "usage" : null', b', "choices": [{"index":1}], "n":12345678901234567890}'),
    (b'{"choices":[{"delta":{"content":",\\"usage\\":null}"}}]', b',"usage":null', b"}"),
    (b'{"choices":[{"delta":{"content":"x"},"usage":null}]', b',"usage":null', b"}"),
    (b'{"choices":[],"usage_metadata":null,"prompt_filter_results":[]', b',"usage":null', b"}"),
)  # fmt: skip
OTHERS = (b": OPENROUTER PROCESSING\n\n", b'data: {"error":{"message":"no"}}\n\n', b"data: ?\n\n")
LAST = (
    b'data: {"id":"c","choices":[],%b}\n\n' % USAGE,
    b'data: { "choices" : [ ], "usage" : {"prompt_tokens":9, "completion_tokens":3} }\n\n',
    b'data: {"choices":null,%b}\n\n' % USAGE,
)


@st.composite
def answers(draw):
    """A stream as it comes when usage is asked for, and as it would come if it were not."""
    asked, plain = b"", b""
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 4)):
            start, null, end = draw(st.sampled_from(CHUNKS))
            before = draw(st.sampled_from([b"", b"", b"event: x\nid: 1\n"]))
            asked += before + b"data: " + start + null + end + b"\n\n"
            plain += before + b"data: " + start + end + b"\n\n"
        else:
            other = draw(st.sampled_from(OTHERS))
            asked, plain = asked + other, plain + other
    asked += draw(st.sampled_from(LAST))
    end = draw(st.sampled_from([DONE, b"", b": bye\n\n" + DONE]))
    line_end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    asked, plain = ((s + end).replace(b"\n", line_end) for s in (asked, plain))
    return asked, plain, draw(cuts())


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(example=answers())
async def test_what_comes_with_the_usage_is_taken_out_to_the_byte(stage, example):
    stage.data, expected, stage.cuts = example
    answer = await ask(stage.proxy)
    assert (answer.body, answer.complete) == (expected, True)


class Stage:
    proxy: RunningProxy
    data = b""
    cuts: tuple[int, ...] = ()

    async def play(self, call):
        await call.start_stream()
        await call.send(*cut(chunked(cut(self.data, self.cuts)), self.cuts))


@pytest.fixture
async def stage(plain, upstream):
    stage = Stage()
    stage.proxy = await plain((await upstream(stage.play)).url, "telemetry.turn_log = false\n")
    return stage


async def test_usage_beside_text_was_not_ours_to_ask_for(plain, upstream):
    """Some upstreams send a running count with every chunk, asked or not."""
    data = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],%b}\n\n' % USAGE

    async def play(call):
        await call.start_stream()
        await call.send(chunked([data + DONE]))

    running = await plain((await upstream(play)).url)
    assert (await ask(running)).body == data + DONE
    assert (await running.turns())[0]["prompt_tokens"] == 9


@pytest.mark.parametrize("length", [True, False])
async def test_a_stream_that_gets_shorter_has_no_length_that_is_wrong(plain, upstream, length):
    events = b"".join(chunks("Hello.", {"stream_options": {"include_usage": True}}))

    async def play(call):
        if length:
            await call.answer(events, content_type="text/event-stream")
        else:
            await call.start_stream()
            await call.send(chunked([events]))

    answer = await ask(await plain((await upstream(play)).url))
    assert (answer.body, answer.complete) == (b"".join(chunks("Hello.", {})), True)


# ---- upstreams that do not know the field


def refusing(status="400 Bad Request"):
    """An upstream that takes no stream_options."""

    async def script(call):
        if b"stream_options" in call.body:
            body = b'{"error":{"message":"unknown field stream_options"}}'
            await call.answer(body, status=status)
        else:
            await chat(call)

    return script


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
async def test_an_upstream_that_refuses_is_asked_once_more_and_remembered(plain, upstream, status):
    up = await upstream(refusing(status))
    running = await plain(up.url)
    async with connected(running.base_url) as client:
        for _ in range(3):
            await client.post(CHAT, PLAIN)
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"".join(chunks("Hello.", {})))
    assert [b"stream_options" in call.body for call in up.calls] == [True, False, False, False]
    assert [call.body for call in up.calls[1:]] == [PLAIN] * 3
    assert up.connections == 1


async def test_one_model_that_refuses_says_nothing_of_another(plain, upstream):
    up = await upstream(refusing())
    running = await plain(up.url)
    for model in (b"a", b"b", b"a"):
        await ask(running, b'{"model":"%b","stream":true}' % model)
    assert [b"stream_options" in c.body for c in up.calls] == [True, False, True, False, False]


async def test_a_refusal_for_another_reason_is_the_clients_and_not_remembered(plain, upstream):
    error = b'{"error": {"message":"bad temperature","code":null}}'
    up = await upstream(lambda call: call.answer(error, status="400 Bad Request"))
    running = await plain(up.url)
    answer = await ask(running)
    assert (answer.status, answer.body) == (400, error)
    up.script = chat
    await ask(running)
    assert [b"stream_options" in call.body for call in up.calls] == [True, False, True]


@pytest.mark.parametrize("status", ["401 No", "404 No", "429 No", "500 No"])
async def test_other_errors_are_asked_once(plain, upstream, status):
    up = await upstream(lambda call: call.answer(b"{}", status=status))
    assert (await ask(await plain(up.url))).reason == "No"
    assert len(up.calls) == 1


async def test_a_client_whose_own_field_is_refused_is_told(plain, upstream):
    up = await upstream(refusing())
    answer = await ask(await plain(up.url), b'{"stream":true,%b}' % ASKED)
    assert answer.status == 400
    assert len(up.calls) == 1

"""A temperature that is learned from feedback, as clients and operators meet it."""

from __future__ import annotations

import asyncio
import json
import logging

import openai
import pytest

from plugins.sampling import Sampling
from proxy.testing import UpstreamError, plugin_test
from tests.support import upstream as wire
from tests.support.plugins import plugin
from tests.support.raw import Client, admin, ask, ask_chat, chat_body, metric, request
from tests.support.redis import until

TUNED = """
[[plugins.scenes]]
name = "s"
models = ["gpt-4o*", "o3", "gpt-5*"]
tune.temperature = [0.0, 1.0]
tune.min_feedback = 1
tune.explore = 0.0
"""
TABLE = '[[plugins]]\nuse = "sampling"\n' + TUNED


class Answered:
    """An answer's id and what its header says."""

    def __init__(self, response_id, headers):
        self.id = response_id
        self.header = headers.get("x-dragoman-sampling")

    @property
    def temperature(self):
        return float(self.header.removeprefix("scene=s; temperature="))


async def say(test, text="Hi", **fields):
    """Ask with the real client, in either form."""
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **fields}
    raw = await test.client.chat.completions.with_raw_response.create(**asked)
    answer = raw.parse()
    if fields.get("stream"):
        ids = {chunk.id async for chunk in answer}
        assert len(ids) == 1
        return Answered(ids.pop(), raw.headers)
    return Answered(answer.id, raw.headers)


async def give(test, response_id, key="sk-demo", **fields):
    """Give feedback with the real client."""
    root = test.base_url.removesuffix("/v1") + "/dragoman/v1"
    client = test.client.with_options(base_url=root, api_key=key)
    return await client.post(
        "/feedback", cast_to=object, body={"response_id": response_id, **fields}
    )


async def is_refused(test, response_id, key="sk-demo"):
    with pytest.raises(openai.NotFoundError) as caught:
        await give(test, response_id, key, thumbs="up")
    assert caught.value.code == "response_not_found"
    return caught.value.body


async def learned(running, scene="s"):
    """What operators see of a scene."""
    return (await admin(running, "/admin/sampling")).json["scenes"][scene]


def arm(seen, temperature):
    (found,) = [a for a in seen["temperatures"] if a["temperature"] == temperature]
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_feedback_teaches_the_temperature_that_made_the_answer(stream):
    async with plugin_test(Sampling, TUNED) as test:
        answer = await say(test, stream=stream)
        assert test.sent[-1]["temperature"] == answer.temperature
        assert await test.outcomes() == {"Sampling": "modify"}
        assert await give(test, answer.id, score=0.5, comment="nice") == {
            "response_id": answer.id,
            "score": 0.5,
            "scene": "s",
            "temperature": answer.temperature,
            "learned": True,
            "replaced": False,
        }
        seen = await learned(test.proxy)
        assert seen["best"] == answer.temperature
        assert arm(seen, answer.temperature) == {
            "temperature": answer.temperature,
            "chosen": 1,
            "feedback": 1,
            "mean": 0.5,
            "posterior": {"alpha": 1.75, "beta": 1.25, "mean": pytest.approx(1 / 6)},
        }
        assert arm(seen, 1 - answer.temperature)["feedback"] == 0
        assert await metric(test.proxy, "dragoman_sampling_chosen_total") == 1
        assert await metric(test.proxy, "dragoman_sampling_feedback_total") == 1
        assert await metric(test.proxy, "dragoman_sampling_score_total") == 0.75


async def test_what_is_liked_is_used(caplog):
    caplog.set_level(logging.INFO, "dragoman.plugins.Sampling")
    async with plugin_test(Sampling, TUNED) as test:
        for number in range(25):
            answer = await say(test, f"question {number}")
            thumbs = "up" if answer.temperature == 1 else "down"
            assert await give(test, answer.id, thumbs=thumbs)
        later = [(await say(test, f"later {number}")).temperature for number in range(20)]
        assert later.count(1.0) > 15
        seen = await learned(test.proxy)
        assert seen["best"] == 1.0
        assert arm(seen, 1.0)["mean"] == 1
        assert arm(seen, 0.0)["mean"] == -1
        told = [record.getMessage() for record in caplog.records]
        assert 1 <= len(told) <= 2
        assert told[-1].startswith("scene s: the best temperature is 1.0 (expected score +0.")


async def test_a_second_feedback_replaces_the_first():
    async with plugin_test(Sampling, TUNED) as test:
        answer = await say(test)
        await give(test, answer.id, thumbs="up")
        for _ in range(2):
            told = await give(test, answer.id, thumbs="down")
            assert told["replaced"]
            seen = arm(await learned(test.proxy), answer.temperature)
            assert (seen["feedback"], seen["mean"]) == (1, -1)
            assert seen["posterior"] == {"alpha": 1, "beta": 2, "mean": pytest.approx(-1 / 3)}
        assert await metric(test.proxy, "dragoman_sampling_feedback_total") == 1


async def test_nobody_can_speak_of_answers_of_others_or_learn_that_there_are_any():
    async with plugin_test(Sampling, TUNED) as test:
        answer = await say(test)
        told = await is_refused(test, answer.id, "sk-other")
        assert told == await is_refused(test, "chatcmpl-unknown", "sk-other")
        assert arm(await learned(test.proxy), answer.temperature)["feedback"] == 0
        assert (await give(test, answer.id, thumbs="up"))["learned"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "response_id"),
        ({"response_id": 7, "score": 1}, "response_id"),
        ({"response_id": "", "score": 1}, "response_id"),
        ({"response_id": "x" * 257, "score": 1}, "response_id"),
        ({"response_id": "x"}, "score"),
        ({"response_id": "x", "score": 1.01}, "score"),
        ({"response_id": "x", "score": -2}, "score"),
        ({"response_id": "x", "score": "1"}, "score"),
        ({"response_id": "x", "score": True}, "score"),
        ({"response_id": "x", "score": None}, "score"),
        ({"response_id": "x", "score": 10**400}, "score"),
        ({"response_id": "x", "score": 1, "thumbs": "up"}, "score"),
        ({"response_id": "x", "thumbs": "sideways"}, "thumbs"),
        ({"response_id": "x", "thumbs": ["up"]}, "thumbs"),
        ({"response_id": "x", "thumbs": "up", "comment": 3}, "comment"),
        ({"response_id": "x", "thumbs": "up", "scene": "s"}, "scene"),
    ],
)
async def test_a_feedback_that_says_nothing_is_refused_with_its_field(proxy, upstream, body, param):
    running = await proxy((await upstream()).url, TABLE)
    answer = await feedback(running, json.dumps(body).encode())
    assert answer.status == 400
    assert answer.json["error"]["param"] == param
    assert answer.json["error"]["type"] == "invalid_request_error"


async def feedback(running, body):
    return await ask(running, request(body, target="/dragoman/v1/feedback"))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"score":1,"score":2}', b'{"score":NaN}'])
async def test_what_is_no_object_is_refused(proxy, upstream, body):
    running = await proxy((await upstream()).url, TABLE)
    assert (await feedback(running, body)).status == 400


# ---- which answers teach


async def test_a_clients_own_temperature_is_respected_and_teaches_nothing():
    async with plugin_test(Sampling, TUNED) as test:
        answer = await say(test, temperature=0.3)
        assert (test.sent[-1]["temperature"], answer.header) == (0.3, None)
        await is_refused(test, answer.id)


async def test_a_clients_own_temperature_is_replaced_where_the_operator_says_so():
    async with plugin_test(Sampling, TUNED + "tune.override_client = true") as test:
        answer = await say(test, temperature=0.3)
        assert test.sent[-1]["temperature"] == answer.temperature
        assert (await give(test, answer.id, thumbs="up"))["learned"]


@pytest.mark.parametrize("model", ["o3", "gpt-5-mini"])
async def test_a_model_that_takes_no_temperature_gets_none(model):
    async with plugin_test(Sampling, TUNED) as test:
        answer = await say(test, model=model)
        assert "temperature" not in test.sent[-1]
        assert answer.header is None
        await is_refused(test, answer.id)


async def test_other_scenes_have_their_default():
    async with plugin_test(Sampling, "defaults.temperature = 0.7\n" + TUNED) as test:
        answer = await say(test, model="other")
        assert (test.sent[-1]["temperature"], answer.header) == (0.7, None)
        assert (await say(test)).temperature in (0.0, 1.0)


async def test_an_error_of_the_upstream_is_no_answer():
    async with plugin_test(Sampling, TUNED, reply=UpstreamError(500, "No.")) as test:
        with pytest.raises(openai.InternalServerError) as caught:
            await test.ask("Hi")
        assert "x-dragoman-sampling" not in caught.value.response.headers
        assert sum(a["chosen"] for a in (await learned(test.proxy))["temperatures"]) == 0


@pytest.mark.parametrize(
    ("handle", "options"),
    [
        ("return await call_next(request.replace(temperature=0.4))", ""),
        ("return answer(request, 'Closed.')", ""),
        ("return await call_next(request)", 'mode = "shadow"\n'),
    ],
    ids=["another temperature", "answered here", "shadow"],
)
async def test_an_answer_that_was_not_made_so_teaches_nothing(
    proxy, upstream, tmp_path, handle, options
):
    inner = plugin(tmp_path, handle, name="inner")
    table = TABLE.replace("\n", "\n" + options, 1) if options else TABLE
    running = await proxy((await upstream()).url, table + inner)
    answer = await ask_chat(running)
    assert answer.status == 200
    assert answer.header("x-dragoman-sampling") is None
    body = json.dumps({"response_id": answer.json["id"], "thumbs": "up"}).encode()
    assert (await feedback(running, body)).status == 404
    assert sum(a["chosen"] for a in (await learned(running))["temperatures"]) == 0


async def test_a_frozen_scene_learns_no_more_and_uses_the_default_if_it_knows_nothing():
    options = "defaults.temperature = 0.7\n" + TUNED + "tune.freeze = true"
    async with plugin_test(Sampling, options) as test:
        answer = await say(test)
        assert (test.sent[-1]["temperature"], answer.header) == (0.7, None)
        assert (await learned(test.proxy))["frozen"]


async def test_without_tune_there_are_no_endpoints(proxy, upstream):
    running = await proxy((await upstream()).url, '[[plugins]]\nuse = "sampling"\n')
    assert (await feedback(running, b"{}")).status == 404
    assert (await admin(running, "/admin/sampling")).status == 404


# ---- streams


async def test_a_stream_is_neither_changed_nor_delayed(proxy, upstream):
    go_on = asyncio.Event()

    async def script(call):
        first, *rest = wire.chunks("Hello there", call.json)
        await call.start_stream()
        await call.chunk(first)
        await asyncio.wait_for(go_on.wait(), 10)
        for event in rest:
            await call.chunk(event)
        await call.end_chunks()

    up = await upstream(script)
    running = await proxy(up.url, 'upstream.stream_usage = "count"\n' + TABLE)
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        head = await client.head()
        expected = wire.chunks("Hello there", {})
        parts = client._parts(head)
        assert await anext(parts) == expected[0]
        go_on.set()
        assert b"".join([part async for part in parts]) == b"".join(expected[1:])
        assert head.header("x-dragoman-sampling") is not None


async def test_a_stream_that_the_client_has_left_can_be_judged(proxy, upstream):
    async def script(call):
        await call.start_stream()
        await call.chunk(wire.chunks("Hello", call.json)[0])
        await call.wait_closed()

    running = await proxy((await upstream(script)).url, TABLE)
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        await anext(client._parts(await client.head()))

    async def is_taken():
        body = b'{"response_id":"chatcmpl-test","thumbs":"down"}'
        return (await feedback(running, body)).status == 200

    await until(is_taken)


async def test_a_stream_that_broke_cannot(proxy, upstream):
    async def script(call):
        await call.start_stream()
        await call.chunk(wire.chunks("Hello", call.json)[0])
        call.reset()

    running = await proxy((await upstream(script)).url, TABLE)
    answer = await ask_chat(running, stream=True)
    assert answer.event_code == "upstream_truncated"
    body = b'{"response_id":"chatcmpl-test","thumbs":"down"}'
    assert (await feedback(running, body)).status == 404


async def test_two_answers_with_the_same_id_are_two_answers(proxy, upstream):
    running = await proxy((await upstream()).url, TABLE)
    for _ in range(2):
        assert (await ask_chat(running)).json["id"] == "chatcmpl-test"
        told = await feedback(running, b'{"response_id":"chatcmpl-test","thumbs":"up"}')
        assert not told.json["replaced"]
    seen = await learned(running)
    assert sum(each["feedback"] for each in seen["temperatures"]) == 2


# ---- for operators


async def test_a_scene_can_be_reset(proxy, upstream):
    running = await proxy((await upstream()).url, TABLE)
    await ask_chat(running)
    up = b'{"response_id":"chatcmpl-test","thumbs":"up"}'
    assert (await feedback(running, up)).json["learned"]
    answer = await admin_post(running, "/admin/sampling/s/reset")
    assert answer.json["best"] is None
    assert [a["feedback"] for a in (await learned(running))["temperatures"]] == [0, 0]
    assert not (await feedback(running, up)).json["learned"]
    await ask_chat(running)
    assert (await feedback(running, up)).json["learned"]


async def test_only_scenes_that_learn_can_be_reset(proxy, upstream):
    running = await proxy((await upstream()).url, TABLE)
    assert (await admin_post(running, "/admin/sampling/other/reset")).status == 404
    assert (await ask(running, request(target="/admin/sampling/s/reset"))).status == 404


async def admin_post(running, path):
    async with await Client.open(running.server.admin_port) as client:
        await client.send(request(target=path))
        return await client.answer()


async def test_a_trace_tells_the_scene_and_its_temperature(proxy, upstream, collector):
    endpoint = f'telemetry.endpoint = "{collector.url}"\n'
    running = await proxy((await upstream()).url, endpoint + TABLE)
    answer = await ask_chat(running)
    await running.stop()
    (span,) = [s for s in collector.spans if s.name == "plugin sampling"]
    told = f"scene=s; temperature={span.attributes['dragoman.sampling.temperature']}"
    assert answer.header("x-dragoman-sampling") == told

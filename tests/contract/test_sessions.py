"""sessions as clients meet it: history supplied or reconciled, taken back, shown and deleted."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from plugins.sessions import Sessions
from proxy.testing import UpstreamError, plugin_test
from tests.support.raw import Client, ask, chat_body, metric, request
from tests.support.upstream import chunks
from tests.support.wire import fetch

TABLE = '[[plugins]]\nuse = "sessions"\n'
SESSION = {"x-dragoman-session": "s1"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def headers(session="s1", **options):
    named = {f"x-dragoman-{name.replace('_', '-')}": value for name, value in options.items()}
    return {"x-dragoman-session": session, **named}


async def said(test, text, *, stream=False, key=None, **options):
    """Say something in a session; the header that tells what was made of it."""
    client = test.client if key is None else test.client.with_options(api_key=key)
    messages = [user(text)] if isinstance(text, str) else text
    raw = await client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=messages, stream=stream, extra_headers=headers(**options)
    )
    parsed = raw.parse()
    if stream:
        async for _ in parsed:
            pass
    return raw.headers.get("x-dragoman-history")


async def endpoint(base_url, method, path, key=None):
    """Status and body of what an endpoint answers; without a key, to nobody."""
    shown = () if key is None else (("Authorization", f"Bearer {key}"),)
    root = base_url.removesuffix("/v1")
    answer = await fetch(root, method, f"/dragoman/v1/sessions/{path}", *shown)
    return answer.status, json.loads(answer.body)


async def exported(test, session="s1", key=None):
    status, told = await endpoint(
        test.base_url, "GET", session, test.client.api_key if key is None else key
    )
    assert status == 200, told
    return told


def contents(told):
    """The messages of an export, by their numbers."""
    return {
        m["number"]: m["message"]["content"] for turn in told["turns"] for m in turn["messages"]
    }


# ---- history


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_may_send_only_what_is_new(stream):
    async with plugin_test(Sessions, reply=lambda body: f"reply {len(body['messages'])}") as test:
        system = {"role": "system", "content": "Be kind."}
        assert await said(test, [system, user("one")], stream=stream) == "new;supplied=0"
        assert await said(test, "two", stream=stream) == "appended;supplied=3"
        assert test.sent[-1]["messages"] == [
            system,
            user("one"),
            assistant("reply 2"),
            user("two"),
        ]
        newer = {"role": "system", "content": "Be brief."}
        assert await said(test, [newer, user("three")], stream=stream) == "appended;supplied=4"
        assert test.sent[-1]["messages"][0] == newer
        assert [m["role"] for m in test.sent[-1]["messages"]] == [
            "system",
            *["user", "assistant"] * 2,
            "user",
        ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_resends_everything_is_sent_on_byte_for_byte(proxy, upstream, stream):
    up = await upstream()
    running = await proxy(up.url, TABLE)
    chat = []
    for text in ("one", "two", "three"):
        chat.append(user(text))
        body = chat_body(messages=chat, stream=stream, temperature=0.5, unknown={"b": 1})
        answer = await ask(running, request(body, ("x-dragoman-session", "s1")))
        assert answer.status == 200
        sent = up.calls[-1].body
        assert json.loads(sent)["messages"] == chat
        if not stream:
            assert sent == body
        chat.append(assistant("Hello."))
    told = await endpoint(running.base_url, "GET", "s1")
    assert list(contents(told[1])) == [1, 2, 3, 4, 5, 6], "nothing is doubled"


async def test_the_session_may_be_named_in_the_metadata_which_goes_on_as_it_is():
    async with plugin_test(Sessions, reply="yes") as test:
        for text in ("one", "two"):
            await test.ask(text, metadata={"session_id": "m:1", "other": "x"}, store=True)
        assert test.sent[-1]["metadata"] == {"session_id": "m:1", "other": "x"}
        assert [m["content"] for m in test.sent[-1]["messages"]] == ["one", "yes", "two"]
        assert (await test.turn()).session == "m:1"
        await test.ask("three", metadata={"session_id": "m:1"}, extra_headers=headers("h"))
        assert test.sent[-1]["messages"] == [user("three")]


async def test_without_a_session_there_is_none():
    async with plugin_test(Sessions, reply="yes") as test:
        await test.ask("one")
        await test.ask("two", metadata={"a": "b"})
        assert test.sent[-1]["messages"] == [user("two")]
        assert await test.outcomes() == {"Sessions": "pass"}


@pytest.mark.parametrize(
    ("given", "fields", "param", "code"),
    [
        ({"x-dragoman-session": "a/b"}, {}, "x-dragoman-session", "invalid_session"),
        ({"x-dragoman-session": "a" * 129}, {}, "x-dragoman-session", "invalid_session"),
        ({"x-dragoman-session": ""}, {}, "x-dragoman-session", "invalid_session"),
        ({}, {"metadata": {"session_id": "ä"}}, "metadata.session_id", "invalid_session"),
        ({}, {"metadata": {"session_id": 7}}, "metadata.session_id", "invalid_session"),
        (headers(session_mode="add"), {}, "x-dragoman-session-mode", "invalid_header"),
        (headers(retract="all"), {}, "x-dragoman-retract", "invalid_header"),
        (
            headers(),
            {"messages": [{"role": "tool", "tool_call_id": "x", "content": "1"}]},
            "messages",
            "unknown_tool_call",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(proxy, upstream, given, fields, param, code):
    up = await upstream()
    running = await proxy(up.url, TABLE)
    answer = await ask(running, request(chat_body(**fields), *given.items()))
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (400, code, param)
    assert not up.calls
    again = await ask(running, request(chat_body(), *SESSION.items()))
    assert again.status == 200, "and the session is not held"


async def test_an_edited_chat_takes_the_place_of_the_one_before():
    async with plugin_test(Sessions, reply=lambda body: f"{len(body['messages'])}") as test:
        await said(test, "one")
        await said(test, "two")
        edited = [user("one"), assistant("1"), user("second")]
        assert await said(test, edited) == "edited;supplied=0"
        await said(test, "three")
        assert [m["content"] for m in test.sent[-1]["messages"]] == [
            "one",
            "1",
            "second",
            "3",
            "three",
        ]
        await said(test, "fresh start", session_mode="replace")
        assert contents(await exported(test)) == {1: "fresh start", 2: "1"}
        await said(test, [user("fresh start"), user("more")], session_mode="append")
        assert len(test.sent[-1]["messages"]) == 4


CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "noon"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("with_call", [False, True])
async def test_tool_results_follow_the_calls_that_the_session_holds(stream, with_call):
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    async with plugin_test(Sessions, reply=calling) as test:
        await said(test, "What time is it?", stream=stream)
        test.reply = "It is noon."
        await said(test, [calling, RESULT] if with_call else [RESULT], stream=stream)
        assert test.sent[-1]["messages"] == [user("What time is it?"), calling, RESULT]
        told = await exported(test)
        assert [len(turn["messages"]) for turn in told["turns"]] == [4]
        test.reply = calling
        await said(test, "And now?", stream=stream)
        test.reply = "Fine."
        await said(test, "Never mind.", stream=stream)
        sent = [m["role"] for m in test.sent[-1]["messages"]]
        assert sent == ["user", "assistant", "tool", "assistant", "user", "user"]
        await said(test, "Bye.", stream=stream, retract="last")
        assert "Never mind." not in str(test.sent[-1])


async def test_of_several_choices_the_first_is_remembered():
    async with plugin_test(Sessions, reply="yes") as test:
        for stream in (False, True):
            await test.client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[user("one")],
                n=3,
                extra_headers=headers(f"n{stream}"),
            )
            await said(test, "two", session=f"n{stream}")
            assert [m["content"] for m in test.sent[-1]["messages"]] == ["one", "yes", "two"]


async def test_what_is_kept_is_what_the_client_was_shown(proxy, upstream):
    """Moderation is outside of sessions, as it should be, and cuts the answer."""
    tables = (
        '[[plugins]]\nuse = "moderation"\noutput.replacement = "[cut]"\n'
        '[[plugins.lists]]\nname = "r"\nwords = ["forbidden"]\n'
    )
    tables += TABLE

    async def script(call):
        await call.chat("Well, " + "this is a long answer " * 20 + "with a forbidden word in it.")

    up = await upstream(script)
    running = await proxy(up.url, tables)
    for stream in (True, False):
        session = f"cut{stream}"
        body = chat_body("one", stream=stream)
        answer = await ask(running, request(body, ("x-dragoman-session", session)))
        if stream:
            pieces = [json.loads(event) for event in answer.events[:-1]]
            shown = "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces)
            assert shown.startswith("Well, this")
        else:
            shown = answer.json["choices"][0]["message"]["content"]
        assert shown.endswith("[cut]")
        (status, told) = await endpoint(running.base_url, "GET", session)
        assert status == 200
        assert contents(told) == {1: "one", 2: shown}
        assert told["turns"][0]["finish_reason"] == "content_filter"


async def test_a_request_that_moderation_refuses_leaves_no_trace(proxy, upstream):
    tables = (
        TABLE + '[[plugins]]\nuse = "moderation"\n'
        '[[plugins.lists]]\nname = "r"\nwords = ["forbidden"]\n'
    )
    up = await upstream()
    running = await proxy(up.url, tables)
    answer = await ask(running, request(chat_body("a forbidden word"), *SESSION.items()))
    assert answer.status == 400
    assert (await ask(running, request(chat_body("two"), *SESSION.items()))).status == 200
    assert json.loads(up.calls[-1].body)["messages"] == [user("two")]


# ---- taking back


async def test_the_last_turn_is_taken_back_with_the_request_that_asks_for_it():
    async with plugin_test(Sessions, reply="yes") as test:
        await said(test, "one")
        await said(test, "two")
        test.reply = UpstreamError(500)
        for _ in range(2):  # what fails has taken nothing back, however often it is tried
            with pytest.raises(openai.InternalServerError):
                await said(test, "three", retract="last")
        test.reply = "yes"
        assert await said(test, "three", retract="last") == "appended;supplied=2;retracted"
        assert [m["content"] for m in test.sent[-1]["messages"]] == ["one", "yes", "three"]
        assert contents(await exported(test)) == {1: "one", 2: "yes", 3: "three", 4: "yes"}
        await said(test, "four", session="empty", retract="last")


@pytest.mark.parametrize(
    ("command", "reply", "left"),
    [
        (
            "Delete my last message.",
            "Your last message and the answer to it are deleted.",
            ["one", "yes"],
        ),
        ("把上一句删掉", "已删除您的上一条消息及其回复。", ["one", "yes"]),
        ("清空聊天记录", "已删除本次对话。", []),
    ],
)
async def test_commands_are_obeyed_and_answered_here(command, reply, left):
    async with plugin_test(Sessions, "commands = true", reply="yes") as test:
        for stream in (False, True):
            assert await test.ask(command, stream=stream) == "yes", "there is no session"
            await said(test, "one")
            await said(test, "two")
            asked = len(test.sent)
            assert await test.ask(command, stream=stream, extra_headers=headers()) == reply
            assert len(test.sent) == asked
            await said(test, "three")
            assert [m["content"] for m in test.sent[-1]["messages"]] == [*left, "three"]
            await said(test, "over", session_mode="replace")
            await test.ask("clear this conversation", extra_headers=headers())
        nothing = await test.ask("delete my last message", extra_headers=headers("other"))
        assert nothing == "There is nothing to delete."


async def test_commands_are_off_unless_they_are_wanted():
    async with plugin_test(Sessions, reply="yes") as test:
        await said(test, "one")
        assert await test.ask("delete my last message", extra_headers=headers()) == "yes"


# ---- endpoints


async def test_a_session_is_shown_with_all_that_is_known_of_it():
    async with plugin_test(Sessions, reply="yes") as test:
        await said(test, [{"role": "system", "content": "Be kind."}, user("one")])
        told = await exported(test)
    assert told["object"] == "dragoman.session"
    assert told["id"] == "s1"
    assert told["system"] == [{"role": "system", "content": "Be kind."}]
    (turn,) = told["turns"]
    assert turn["messages"] == [
        {"number": 1, "message": user("one")},
        {"number": 2, "message": assistant("yes")},
    ]
    assert (turn["turn"], turn["state"], turn["finish_reason"]) == (1, "complete", "stop")
    assert turn["model"] == "gpt-4o-mini"
    assert turn["usage"]["prompt_tokens"] > 5
    assert turn["usage"]["completion_tokens"] == 1
    assert told["created"] <= turn["began"] <= turn["ended"]


async def test_messages_and_sessions_are_deleted_for_good():
    async with plugin_test(Sessions, reply="yes") as test:
        key = test.client.api_key
        for text in ("one", "two", "three"):
            await said(test, text)
        delete = "s1/messages/3"
        assert await endpoint(test.base_url, "DELETE", delete, key) == (
            200,
            {"id": "s1", "deleted_messages": [3]},
        )
        status, told = await endpoint(test.base_url, "DELETE", delete, key)
        assert (status, told["error"]["code"]) == (404, "message_not_found")
        for wrong in ("0", "99", "x", "-1", "1" * 30):
            assert (await endpoint(test.base_url, "DELETE", f"s1/messages/{wrong}", key))[0] == 404
        await said(test, "four")
        sent = [m["content"] for m in test.sent[-1]["messages"]]
        assert sent == ["one", "yes", "yes", "three", "yes", "four"]
        assert await endpoint(test.base_url, "DELETE", "s1", key) == (
            200,
            {"id": "s1", "deleted": True},
        )
        for method in ("GET", "DELETE"):
            status, told = await endpoint(test.base_url, method, "s1", key)
            assert (status, told["error"]["code"]) == (404, "session_not_found")
        assert (await endpoint(test.base_url, "GET", "a%20b", key))[0] == 400
        await said(test, "five")
        assert test.sent[-1]["messages"] == [user("five")]


async def test_who_guesses_the_id_of_somebody_elses_session_finds_it_empty():
    async with plugin_test(Sessions, reply="yes") as test:
        await said(test, "my secret")
        assert await said(test, "what was my secret?", key="sk-eve") == "new;supplied=0"
        assert test.sent[-1]["messages"] == [user("what was my secret?")]
        for method, path in (("GET", "s1"), ("DELETE", "s1/messages/1"), ("DELETE", "s1")):
            await endpoint(test.base_url, method, path, "sk-eve")
            status, told = await endpoint(test.base_url, method, path, "sk-mallory")
            assert status == 404
            assert "secret" not in str(told)
        assert "my secret" in str(await exported(test))


# ---- one at a time


@pytest.fixture
async def slow(proxy, upstream):
    """A proxy whose upstream answers a stream when it is told to, and all else at once."""
    go = asyncio.Event()

    async def script(call):
        if not call.json.get("stream"):
            await call.chat("yes")
            return
        await call.start_stream()
        first, *rest = chunks("a slow answer", call.json)
        await call.chunk(first)
        await go.wait()
        for event in rest:
            await call.chunk(event)
        await call.end_chunks()

    up = await upstream(script)

    async def start(options=""):
        return await proxy(up.url, TABLE + options), up, go

    return start


async def begin(running, text="slow"):
    """A stream in the session that has begun."""
    client = await Client.open(running.server.port)
    await client.send(request(chat_body(text, stream=True), *SESSION.items()))
    return client, await client.head()


async def test_requests_of_a_session_wait_for_one_another(slow):
    running, up, go = await slow()
    client, head = await begin(running)
    assert head.status == 200
    async with asyncio.TaskGroup() as group:
        second = group.create_task(ask(running, request(chat_body("second"), *SESSION.items())))
        other = await ask(running, request(chat_body("x"), ("x-dragoman-session", "s2")))
        assert other.status == 200
        assert len(up.calls) == 2
        go.set()
    assert second.result().status == 200
    assert json.loads(up.calls[-1].body)["messages"] == [
        user("slow"),
        assistant("a slow answer"),
        user("second"),
    ]
    client.reset()


async def ends(client):
    """Read a stream to its end."""
    async with asyncio.timeout(5):
        while b"[DONE]" not in await client.reader.read(65_536):
            pass


@pytest.mark.parametrize("options", ['concurrent = "refuse"\n', 'max_wait = "50 ms"\n'])
async def test_a_session_that_is_busy_for_too_long_is_refused(slow, options):
    running, up, go = await slow(options)
    client, _ = await begin(running)
    refused = await ask(running, request(chat_body("second"), *SESSION.items()))
    assert (refused.status, refused.code) == (409, "session_busy")
    assert refused.header("retry-after") == "1"
    assert len(up.calls) == 1
    go.set()
    await ends(client)
    for number in range(3):  # who comes when the answer has ended is no conflict
        answer = await ask(running, request(chat_body(f"{number}"), *SESSION.items()))
        assert answer.status == 200
    assert len(json.loads(up.calls[-1].body)["messages"]) == 7
    assert await metric(running, "dragoman_session_turns_total") == 4
    client.reset()


async def test_a_session_that_is_deleted_amid_an_answer_stays_deleted(slow):
    running, _, go = await slow()
    await ask(running, request(chat_body("one"), *SESSION.items()))
    client, _ = await begin(running)
    assert (await endpoint(running.base_url, "DELETE", "s1"))[0] == 200
    go.set()
    await ends(client)
    async with asyncio.timeout(5):
        while await metric(running, "dragoman_session_turns_total") < 2:
            await asyncio.sleep(0.01)
    assert (await endpoint(running.base_url, "GET", "s1"))[0] == 404
    client.reset()


async def test_a_proxy_that_keeps_sessions_to_itself_says_so(proxy, upstream, caplog):
    await proxy((await upstream()).url, TABLE)
    assert "sessions are in this process's memory" in caplog.text


async def test_an_answer_of_another_plugin_is_part_of_the_session(tmp_path):
    (tmp_path / "faq.py").write_text(
        "from proxy.plugin import Plugin, answer\n"
        "class Faq(Plugin):\n"
        "    async def handle(self, request, call_next):\n"
        '        if request.messages[-1]["content"] == "hours?":\n'
        '            return answer(request, "We open at nine.")\n'
        "        return await call_next(request)\n"
    )
    table = TABLE + '[[plugins]]\nuse = "./faq.py:Faq"\n'
    async with plugin_test(table, folder=tmp_path, reply="yes") as test:
        await said(test, "hours?", stream=True)
        await said(test, "thanks")
        assert [m["content"] for m in test.sent[-1]["messages"]] == [
            "hours?",
            "We open at nine.",
            "thanks",
        ]

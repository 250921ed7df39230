"""Messages that are commands: the whole of a message, and nothing but it."""

from __future__ import annotations

import pytest

from plugins.sessions.commands import Commands, normal

COMMANDS = Commands()


def found(text):
    return COMMANDS.find([{"role": "user", "content": text}])


@pytest.mark.parametrize(
    ("text", "deletes", "done"),
    [
        ("delete my last message", "last", "Your last message"),
        ("  Delete my LAST   message. ", "last", "Your last message"),
        ([{"type": "text", "text": "Forget what I just said!"}], "last", "Your last message"),
        ("把上一句删掉", "last", "已删除"),
        ("把上一句删掉。", "last", "已删除"),
        ("清空聊天记录！", "all", "已删除"),
        ("Clear this conversation", "all", "This conversation"),
    ],
)
def test_a_command_is_known_and_answered_in_its_language(text, deletes, done):
    command = found(text)
    assert (command.deletes, command.done.startswith(done)) == (deletes, True)


@pytest.mark.parametrize(
    "text",
    [
        "How do I delete my last message?",
        "delete my last message from the draft",
        '"delete my last message"',
        "不要把上一句删掉",
        "把上一句删掉，然后继续",
        "",
        [{"type": "text", "text": "delete my last message"}, {"type": "image_url"}],
        None,
    ],
)
def test_what_only_holds_one_is_none(text):
    assert found(text) is None


def test_one_among_other_messages_is_none():
    command = {"role": "user", "content": "delete my last message"}
    assert COMMANDS.find([command, command]) is None
    assert COMMANDS.find([{**command, "role": "tool"}]) is None


def test_no_phrase_stands_for_two_things():
    import tomllib
    from importlib.resources import files

    text = (files("plugins.sessions") / "data" / "commands.toml").read_text("utf-8")
    phrases = [
        normal(phrase)
        for said in tomllib.loads(text).values()
        for key in ("delete_last", "delete_all")
        for phrase in said[key]
    ]
    assert len(phrases) == len(set(phrases))

"""The demo is over when something fails, and says what."""

from __future__ import annotations

import logging
import os

import pytest

from proxy.demo import script
from proxy.demo.conversation import Conversation, NotRefused


@pytest.fixture(autouse=True)
def _what_the_demo_changes_is_put_back(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(logging.getLogger("dragoman.loop"), "disabled", False)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (NotRefused("it answered"), "it answered"),
        (TimeoutError(), "TimeoutError"),
        (OSError("no sockets left"), "no sockets left"),
    ],
)
def test_a_failure_is_the_exit_code_and_is_named(monkeypatch, capsys, failure, said):
    async def hold(_):
        raise failure

    monkeypatch.setattr(Conversation, "hold", hold)
    assert script.main(None) == 1
    assert capsys.readouterr().err == f"The demo failed: {said}\n"


def test_an_interrupted_demo_ends_quietly(monkeypatch, capsys):
    async def hold(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "hold", hold)
    assert script.main(None) == 130
    assert capsys.readouterr().err == ""


def test_an_upstream_that_answers_what_it_should_refuse_is_a_failure(monkeypatch, capsys):
    async def hold(conversation):
        await conversation.ask_in_vain("An error", "Answer me.")

    monkeypatch.setattr(Conversation, "hold", hold)
    assert script.main(None) == 1
    assert "should have refused" in capsys.readouterr().err

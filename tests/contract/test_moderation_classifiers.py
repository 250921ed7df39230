"""Classifiers on this machine through a real proxy, on what comes in and on what goes out."""

from __future__ import annotations

import openai
import pytest

from tests.support import onnx_folder
from tests.support.moderation import ANSWER, BAD, ask, by_api, judge, says, streamed
from tests.support.raw import metric

ENGLISH = """
[[plugins]]
use = "moderation"

[[plugins.classifiers]]
use = "english"
"""
RUDE = "You are a stupid idiot and I hate you."


@pytest.fixture
def onnx(tmp_path):
    """The table of a classifier in ONNX that blocks what is nasty."""
    for package in ("onnx", "onnxruntime", "tokenizers"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    pin = onnx_folder.make(tmp_path)

    def table(options: str = "", action: str = "block") -> str:
        return f"""
        [[plugins]]
        use = "moderation"
        {options}
        [[plugins.classifiers]]
        use = "onnx"
        path = "{tmp_path}"
        sha256 = "{pin}"
        timeout = "20 s"
        categories = [{{ name = "toxicity", threshold = 0.9, action = "{action}" }}]
        """

    return table


async def test_english_that_is_offensive_reaches_no_upstream(moderating):
    up, running = await moderating(ENGLISH)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, RUDE)
    assert refused.value.code == "content_policy_violation"
    assert up.calls == []
    assert await ask(running, "How do I stop a process?")
    counted = 'dragoman_moderation_classified_total{classifier="english",outcome="answered"}'
    assert await metric(running, counted) >= 2


async def test_english_that_is_offensive_is_not_shown(moderating):
    text = f"Well, since you are asking me so nicely, here it comes. {RUDE} And so on."
    _, running = await moderating(ENGLISH, says(text, 0.005))
    shown, reason = await streamed(running)
    assert reason == "content_filter"
    assert "idiot" not in shown
    choice = (await ask(running)).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize("order", ["before", "parallel"])
async def test_a_model_in_onnx_judges_the_input(moderating, onnx, order):
    up, running = await moderating(onnx(f'input.order = "{order}"'))
    with pytest.raises(openai.BadRequestError):
        await ask(running, "How nasty")
    assert order == "parallel" or up.calls == []
    assert await ask(running, "How nice")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_in_onnx_judges_the_output(moderating, onnx, stream):
    _, running = await moderating(onnx('output.interval = "10 ms"'), says(ANSWER, 0.005))
    if stream:
        shown, reason = await streamed(running)
    else:
        choice = (await ask(running)).choices[0]
        shown, reason = choice.message.content, choice.finish_reason
    assert reason == "content_filter"
    assert BAD not in shown


async def test_what_a_classifier_masks_the_upstream_does_not_see(moderating, onnx):
    up, running = await moderating(onnx("", "mask"))
    assert await ask(running, "How nasty")
    assert up.calls[0].json["messages"][0]["content"] == "*** *****"


async def test_the_api_is_not_asked_about_what_a_classifier_blocks(moderating, upstream):
    api = await upstream(judge())
    table = '[[plugins.classifiers]]\nuse = "english"'
    _, running = await moderating(by_api(api.url, 'input.order = "before"') + table)
    with pytest.raises(openai.BadRequestError):
        await ask(running, RUDE)
    assert api.calls == []


@pytest.mark.parametrize("order", ["before", "parallel"])
async def test_a_model_that_fails_follows_on_error(moderating, onnx, order):
    _, running = await moderating(onnx(f'input.order = "{order}"'))
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running, "This is broken")
    assert failed.value.code == "moderation_unavailable"
    assert await ask(running, "This is not")
    _, running = await moderating(onnx(f'input.order = "{order}"\ninput.on_error = "open"'))
    assert await ask(running, "This is broken")
    _, running = await moderating(onnx(), says("This is broken. And so on and so on."))
    with pytest.raises(openai.APIError) as stopped:
        await streamed(running)
    assert stopped.value.code == "moderation_unavailable"

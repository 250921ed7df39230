"""Texts that wait for a classifier: how many, how long, and what is done with its scores."""

from __future__ import annotations

import asyncio
import threading
from logging import getLogger
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from plugins.moderation.classifier import Classification, Part
from plugins.moderation.options import ClassifierOptions
from plugins.moderation.verdicts import CheckFailed, Finding, Score, mask
from proxy.telemetry import Metrics


class Slow:
    """A classifier that waits for a sign before it judges; the score is the share of x."""

    labels = ("x",)

    def __init__(self):
        self.may_go = threading.Event()
        self.asked = []
        self.parts_made = 0

    def load(self):
        pass

    def parts(self, text):
        self.asked.append(text)
        for start in range(0, len(text), 4):
            assert self.may_go.wait(20)
            self.parts_made += 1
            piece = text[start : start + 4]
            yield Part(start, start + len(piece), {"x": piece.count("x") / 4})


@pytest.fixture
async def started():
    """Start a Slow one with these options."""
    running = []
    services = SimpleNamespace(metrics=Metrics("openai"), log=getLogger(__name__))

    async def start(*limits, **options):
        slow = Slow()
        options = {"timeout": 20, **options}
        categories = limits or ({"name": "x", "threshold": 0.5},)
        made = Classification(
            slow,
            ClassifierOptions(use="onnx", path=Path("x"), categories=categories, **options),
            services,  # type: ignore[arg-type]
            entries=100,
        )
        running.append((slow, made))
        await made.start()
        return slow, made

    yield start
    for slow, made in running:
        slow.may_go.set()
        await made.stop()


async def asked(slow):
    async with asyncio.timeout(20):
        while not slow.asked:
            await asyncio.sleep(0.01)


async def test_a_text_is_judged_once(started):
    slow, checks = await started()
    slow.may_go.set()
    for _ in range(3):
        assert (await checks.check("ab xx")).categories == ()
        assert (await checks.check("xxxx")).blocks
    assert slow.asked == ["ab xx", "xxxx"]
    assert not (await checks.check("  ")).scores


async def test_the_worst_part_counts(started):
    slow, checks = await started({"name": "x", "threshold": 0.75, "action": "flag"})
    slow.may_go.set()
    verdict = await checks.check("aaaaxxxaxaaaxxxx")
    assert verdict.findings == (Finding("x", "flag"),)
    assert verdict.scores == {"x": Score(1.0, is_flagged=True)}
    assert (await checks.check("xxaa")).scores == {"x": Score(0.5, is_flagged=False)}


async def test_a_mask_covers_the_parts_where_it_was_found(started):
    slow, checks = await started({"name": "x", "threshold": 0.5, "action": "mask"})
    slow.may_go.set()
    text = "abcdxxefghijxx"
    assert mask(text, (await checks.check(text)).masked) == "abcd****ghij**"


async def test_where_too_many_wait_there_is_no_verdict(started):
    slow, checks = await started(queue=2)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(checks.check(text)) for text in ("one", "two")]
        await asked(slow)
        with pytest.raises(CheckFailed, match="too many"):
            await checks.check("three")
        slow.may_go.set()
    assert all(not task.result() for task in waiting)
    assert not await checks.check("three")


async def test_one_that_takes_too_long_gives_no_verdict_and_works_on_nothing_else(started):
    slow, checks = await started(timeout=0.2, queue=1)
    with pytest.raises(CheckFailed, match="too long"):
        await checks.check("a long text of many parts")
    slow.may_go.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert not await checks.check("fine")
                break
            except CheckFailed:
                await asyncio.sleep(0.01)
    assert slow.parts_made <= 2


async def test_nobody_works_for_a_client_who_has_gone(started):
    slow, checks = await started()
    first = asyncio.ensure_future(checks.check("one"))
    await asked(slow)
    second = asyncio.ensure_future(checks.check("two"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    slow.may_go.set()
    assert not await first
    assert not await checks.check("three")
    assert slow.asked == ["one", "three"]


async def test_a_classifier_that_fails_gives_no_verdict(started):
    slow, checks = await started()
    slow.may_go.set()
    slow.parts = lambda text: 1 / 0
    with pytest.raises(CheckFailed, match="failed"):
        await checks.check("text")


async def test_a_category_that_it_does_not_know_keeps_the_server_from_starting(started):
    with pytest.raises(ValueError, match="no category 'y'; it has x"):
        await started({"name": "y", "threshold": 0.5})


@pytest.mark.parametrize(
    "options",
    [
        {"use": "onnx"},
        {"use": "onnx", "path": "x"},
        {"use": "english", "path": "x"},
        {"use": "detoxify", "path": "x", "categories": [{"name": "toxicity", "threshold": 0.5}]},
    ],
)
def test_options_that_cannot_be_used_are_refused(options):
    with pytest.raises(ValidationError):
        ClassifierOptions(**options)

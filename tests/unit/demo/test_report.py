"""The demo's report is plain text of 100 columns, and coloured only where a terminal wants it."""

from __future__ import annotations

import sys

import pytest

from proxy.demo import report
from proxy.demo.receiver import Span
from proxy.telemetry.turns import PluginTurn, Turn
from proxy.terminal import WIDTH


def turn(**fields):
    values = dict.fromkeys(Turn.__struct_fields__)
    known = {"prompt_tokens": 26, "completion_tokens": 44, "usage_source": "upstream"}
    plugins = [PluginTurn("sampling", "request", "modify", 0.25)]
    return Turn(**{**values, **known, "overhead_ms": 1.5, "plugins": plugins, **fields})


def plugin_span(**attributes):
    said = {name.replace("__", "."): value for name, value in attributes.items()}
    named = {"dragoman.plugin.name": "sampling", "dragoman.plugin.phase": "request"}
    return Span("plugin sampling", "2", "1", 0, 1, named | said)


def printed(capsys, *spans, **fields):
    report.exchange(turn(**fields), spans)
    return capsys.readouterr().out.splitlines()


def test_an_exchange_tells_outcome_own_time_tokens_and_overhead(capsys):
    plugin, tokens = printed(capsys)
    assert plugin.split() == ["sampling", "modify", "0.25", "ms"]
    assert "prompt 26 -> 26, answer 44, as the upstream counts" in tokens
    assert tokens.endswith("overhead 1.50 ms")


def test_what_a_plugin_changed_and_noted_is_read_off_its_span(capsys):
    span = plugin_span(
        dragoman__plugin__changed=["messages", "seed"], dragoman__sampling__scene="code"
    )
    plugin, _ = printed(capsys, span)
    assert "modify: messages, seed; sampling.scene code" in plugin


def test_tokens_that_a_plugin_saved_are_shown_before_and_after(capsys):
    span = plugin_span(
        dragoman__tokens__before=310, dragoman__tokens__after=26, dragoman__tokens__saved=284
    )
    plugin, tokens = printed(capsys, span)
    assert "modify: tokens 310 -> 26 " in plugin
    assert "saved" not in plugin
    assert "prompt 310 -> 26, answer 44" in tokens


def test_an_exchange_that_spent_nothing_says_so(capsys):
    assert "none were spent" in printed(capsys, prompt_tokens=None)[-1]


def test_lines_fit_a_terminal_whatever_is_said(capsys):
    report.message("assistant", "word " * 500)
    report.failure(500, "x" * 500)
    lines = printed(capsys, plugin_span(dragoman__note="long " * 99))
    lines += capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH


def test_a_long_message_is_cut_and_says_so(capsys):
    report.message("assistant", "word " * 500)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == report.LINES
    assert lines[-1].endswith("…")


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "coloured"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_there_is_colour_on_a_terminal_that_does_not_refuse_it(
    capsys, monkeypatch, is_terminal, no_color, coloured
):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    report.title(1, "A question")
    assert ("\033[" in capsys.readouterr().out) is coloured


def test_complaints_go_to_stderr(capsys):
    report.complain("nothing works")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "nothing works\n")

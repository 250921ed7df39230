"""What `dragoman demo` prints: plain text of 100 columns, with colour where a terminal wants it."""

from __future__ import annotations

import os
import sys
from textwrap import shorten, wrap
from typing import TYPE_CHECKING, Any

from proxy.terminal import BOLD, DIM, GREEN, RED, WIDTH, styled, wants_colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.telemetry.turns import Turn

    from .receiver import Span

LINES = 3
"""The most that are printed of one message."""

_LABEL = 13
_TEXT = WIDTH - _LABEL - 3

_COUNTED = {"upstream": "as the upstream counts", "estimated": "by our own count"}


def say(text: str = "", style: str = "") -> None:
    """Print a line, in a style if there is colour."""
    has_colour = wants_colour(sys.stdout, os.environ)
    print(styled(text, style) if has_colour else text, flush=True)  # noqa: T201


def begin(lines: Iterable[str]) -> None:
    """What runs, in the words of the server itself."""
    for line in lines:
        say(line, DIM)


def title(number: int, text: str) -> None:
    say()
    say(f"{number}  {text}", BOLD)


def message(role: str, text: str, style: str = "") -> None:
    """A message of the conversation, as far as it fits into some lines."""
    for number, line in enumerate(wrap(text, _TEXT, max_lines=LINES, placeholder=" …")):
        _row("" if number else role, line, style)


def failure(status: int, text: str) -> None:
    """An error that the client got in place of an answer."""
    message("error", f"{status}: {text}", RED)


def exchange(turn: Turn, spans: Sequence[Span]) -> None:
    """What the proxy did with one chat completion: by its turn log, and by its trace."""
    for plugin in turn.plugins:
        span = next((span for span in spans if _is_of(span, plugin.name, plugin.phase)), None)
        doings = _doings(span.attributes) if span else ""
        style = DIM if plugin.outcome == "pass" else GREEN
        _row(plugin.name, _apart(f"{plugin.outcome}{doings}", f"{plugin.ms:.2f} ms"), style)
    _row("tokens", _apart(_tokens(turn, spans), f"overhead {turn.overhead_ms:.2f} ms"))


def trace(number: int, lines: Iterable[str]) -> None:
    say()
    say(f"The trace of {number}, as its collector received it", BOLD)
    for line in lines:
        say(f"   {line}")


def end() -> None:
    say()
    say("Now yours:  dragoman serve --upstream https://api.openai.com/v1", BOLD)
    say('and in the client:  OpenAI(base_url="http://127.0.0.1:8080/v1")')


def complain(text: str) -> None:
    """Say on stderr why nothing more comes."""
    print(text, file=sys.stderr)  # noqa: T201


def _row(label: str, text: str, style: str = "") -> None:
    say(f"   {label:{_LABEL}.{_LABEL - 1}}{text}".rstrip(), style)


def _apart(left: str, right: str) -> str:
    return f"{shorten(left, _TEXT - len(right) - 2, placeholder=' …'):{_TEXT - len(right)}}{right}"


def _is_of(span: Span, plugin: str, phase: str) -> bool:
    said = span.attributes.get
    return said("dragoman.plugin.name") == plugin and said("dragoman.plugin.phase") == phase


def _doings(attributes: Mapping[str, Any]) -> str:
    """What a plugin's span tells beside its outcome: what it changed, and what it noted."""
    said = {name.removeprefix("dragoman."): value for name, value in attributes.items()}
    parts = [", ".join(said["plugin.changed"])] if "plugin.changed" in said else []
    for name, value in said.items():
        subject, _, point = name.rpartition(".")
        if point == "before" and f"{subject}.after" in said:
            parts.append(f"{subject} {value} -> {said[f'{subject}.after']}")
        elif point not in ("after", "saved") and not name.startswith("plugin."):
            parts.append(f"{name} {value}")
    return f": {'; '.join(parts)}" if parts else ""


def _tokens(turn: Turn, spans: Sequence[Span]) -> str:
    """Tokens of the prompt before and after the plugins, and of the answer."""
    if turn.prompt_tokens is None:
        return "none were spent"
    in_time = sorted(spans, key=lambda span: span.start)
    counts = (span.attributes.get("dragoman.tokens.before") for span in in_time)
    before = next((count for count in counts if count is not None), turn.prompt_tokens)
    counted = _COUNTED.get(turn.usage_source, turn.usage_source)
    prompt = f"prompt {before} -> {turn.prompt_tokens}"
    return f"{prompt}, answer {turn.completion_tokens}, {counted}"

"""A trace as a tree, as wide as a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .receiver import Span

NAME, BAR = 36, 22
"""Columns of a span's name, and of its place in time."""


def tree(spans: Sequence[Span]) -> Iterator[str]:
    """One line for each span: its name below its parent's, duration, place in time, and result."""
    known = {span.span_id for span in spans}
    in_time = sorted(spans, key=lambda span: (span.start, -span.end))
    for root in (span for span in in_time if span.parent_id not in known):
        yield _line(root.name, root, root)
        yield from _below(root, in_time, root, "")


def _below(parent: Span, spans: Sequence[Span], root: Span, indent: str) -> Iterator[str]:
    children = [span for span in spans if span.parent_id == parent.span_id]
    for child in children:
        is_last = child is children[-1]
        yield _line(f"{indent}{'└─' if is_last else '├─'} {child.name}", child, root)
        yield from _below(child, spans, root, indent + ("   " if is_last else "│  "))


def _line(name: str, span: Span, root: Span) -> str:
    milliseconds = f"{(span.end - span.start) / 1e6:.2f} ms"
    return f"{name:{NAME}.{NAME}} {milliseconds:>10}  {_bar(span, root)}  {_result(span)}".rstrip()


def _bar(span: Span, root: Span) -> str:
    """When the span ran, seen from the root's begin to its end."""
    whole = max(1, root.end - root.start)
    start = min(BAR - 1, max(0, (span.start - root.start) * BAR // whole))
    end = min(BAR, max(start + 1, round((span.end - root.start) * BAR / whole)))
    return f"{' ' * start}{'━' * (end - start)}{' ' * (BAR - end)}"


def _result(span: Span) -> str:
    said = span.attributes.get
    if said("gen_ai.usage.input_tokens") is not None:
        return f"{said('gen_ai.usage.input_tokens')} + {said('gen_ai.usage.output_tokens')} tokens"
    return str(said("dragoman.plugin.outcome") or said("http.response.status_code") or "")

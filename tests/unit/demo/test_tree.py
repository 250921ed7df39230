"""A trace is drawn as a tree that fits a terminal."""

from __future__ import annotations

from itertools import count

from proxy.demo.receiver import Span
from proxy.demo.tree import BAR, NAME, tree

MS = 1_000_000


def spans(*shapes):
    """Spans of (name, number of the parent, begin in ms, end in ms, attributes)."""
    numbers = count(1)
    return [
        Span(name, str(next(numbers)), str(parent or ""), begin * MS, end * MS, attributes)
        for name, parent, begin, end, attributes in shapes
    ]


TRACE = spans(
    ("POST /v1/chat/completions", None, 0, 100, {"http.response.status_code": 200}),
    ("chat m", 1, 50, 90, {"gen_ai.usage.input_tokens": 26, "gen_ai.usage.output_tokens": 4}),
    ("plugin sampling", 1, 10, 95, {"dragoman.plugin.outcome": "modify"}),
    ("POST", 2, 50, 90, {"http.response.status_code": 200}),
)


def test_children_stand_below_their_parent_in_the_order_of_time():
    drawn = [line[:28].rstrip() for line in tree(TRACE)]
    assert drawn == [
        "POST /v1/chat/completions",
        "├─ plugin sampling",
        "└─ chat m",
        "   └─ POST",
    ]


def test_each_line_tells_how_long_it_took_and_what_came_of_it():
    words = [(line.split("ms")[0].split()[-1], line.split("━")[-1].strip()) for line in tree(TRACE)]
    assert words == [
        ("100.00", "200"),
        ("85.00", "modify"),
        ("40.00", "26 + 4 tokens"),
        ("40.00", "200"),
    ]


def test_a_bar_shows_when_a_span_ran():
    start = NAME + 13
    root, plugin, chat, _ = (line[start : start + BAR] for line in tree(TRACE))
    assert root == "━" * BAR
    assert plugin == " " * 2 + "━" * 19 + " "
    assert chat.startswith(" " * (BAR // 2) + "━")


def test_no_line_is_wider_than_a_terminal():
    wide = spans(
        ("x" * 200, None, 0, 1, {"http.response.status_code": 200}),
        ("y" * 200, 1, -5, 10**6, {"gen_ai.usage.input_tokens": 10**6}),
    )
    assert max(len(line) for line in tree(wide)) <= 97  # they are indented


def test_spans_whose_parent_is_elsewhere_begin_a_tree_of_their_own():
    continued = spans(("POST /v1/chat/completions", "client", 0, 1, {}), ("chat m", 1, 0, 1, {}))
    assert [line[0] for line in tree(continued)] == ["P", "└"]


def test_without_spans_there_is_nothing_to_draw():
    assert list(tree([])) == []

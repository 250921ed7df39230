"""The line named for a key is the line where it stands, whatever the layout of the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import config
from proxy.document import Document
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Tables that are right, in shapes that a careless reader takes for something else.
TABLES = {
    "": [],
    "[upstream]": [
        'base_url = "http://127.0.0.1:1"',
        "api_key = 'x'",
        'provider = """\nzzz = 1\n[[keys]]\nzzz = \\"""\\" 2 """',
        "'retries' = 1 # zzz = 1",
        '"stream_usage" = "ask"',
    ],
    "[server] # zzz = 1": ["host = '''\n127.0.0.1'''", "port = 1_000", 'drain="1 s"'],
    "[ telemetry ]": [
        'service_name = "\\"zzz = 1 \\\\"',
        "tail_sample = {errors=true, slow = 1}",
    ],
    "['tokens']": ['encodings = { "zzz" = "o200k_base", \'z.z\' = "o200k_base" }', "verify = 0.5"],
    "[[keys]]": ['name = "a"', f'sha256 = "{"a" * 64}"'],
    "[[ keys ]]": ['name = "b"', f'sha256 = "{"b" * 64}"'],
    '[["keys"]]': [f"sha256 = '''\n{'c' * 64}'''", 'name = "c"'],
}
NOISE = ["", "# zzz = 1", "  \t# [zzz]", "#", '# """ zzz']
WRONG = [
    "zzz = 1",
    '"zzz" = [\n  1, # zzz\n  "]",\n]',
    "'zzz' = '''\n]]'''",
    '\t"\\u007azz"={ a = 1 }',
    "zzz . inner = 1979-05-27 07:32:00",
    'zzz = """""" # """',
]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[str, int]:
    """A configuration whose only mistake is the key zzz, and the line where that stands."""
    headers = ["", *draw(st.permutations([header for header in TABLES if header]))]
    target = draw(st.sampled_from(headers))
    text, line = "", 0
    for header in headers:
        text += f"{header}\n"
        entries = draw(st.permutations(TABLES[header]))
        at = draw(st.integers(0, len(entries)))
        for index, entry in enumerate([*entries, ""]):
            if header == target and index == at:
                line = text.count("\n") + 1
                text += draw(st.sampled_from(WRONG)) + "\n"
            text += "\n".join([*draw(st.lists(st.sampled_from(NOISE), max_size=2)), entry, ""])
    return text, line


@given(layout=layouts(), newline=st.sampled_from(["\n", "\r\n"]))
def test_an_unknown_key_is_reported_on_its_line_in_any_layout(
    tmp_path_factory: pytest.TempPathFactory, layout: tuple[str, int], newline: str
) -> None:
    text, line = layout
    path = tmp_path_factory.getbasetemp() / "layout.toml"
    path.write_text(text, newline=newline)
    found = config.read(path, {}, {}).mistakes.found
    assert [mistake.text.split(";")[0] for mistake in found] == [
        f"{path}:{line}: unknown key 'zzz'"
    ]


@given(layouts())
def test_no_key_is_overlooked_and_none_is_invented(layout: tuple[str, int]) -> None:
    document = Document.parse(layout[0], name="x.toml")
    assert set(document.lines) == set(places(document.values))


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Each place inside a value."""
    inner: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for part, each in inner:
        yield (*place, part)
        yield from places(each, (*place, part))


def test_every_place_of_a_document_has_its_line() -> None:
    document = Document.parse(
        'a.b = 1\n[c]\n"d.e" = [\n  1,\n  { f = 2 },\n]\n'
        "[[g]]\nh = {}\n[[g]]\n[g.i]\n[[g.j]]\nk = 1\n",
        name="x.toml",
    )
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 1,
        ("c",): 2,
        ("c", "d.e"): 3,
        ("c", "d.e", 0): 4,
        ("c", "d.e", 1): 5,
        ("c", "d.e", 1, "f"): 5,
        ("g",): 7,
        ("g", 0): 7,
        ("g", 0, "h"): 8,
        ("g", 1): 9,
        ("g", 1, "i"): 10,
        ("g", 1, "j"): 11,
        ("g", 1, "j", 0): 11,
        ("g", 1, "j", 0, "k"): 12,
    }


def test_what_stands_nowhere_is_looked_for_in_the_table_around_it() -> None:
    document = Document.parse("\n[a]\n[a.b]\n", name="x.toml")
    assert document.line(("a", "b", "c", 0)) == 3
    assert document.line(("a", "x")) == 2
    assert document.line(("x",)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = 80 80\n", "x.toml:2: not TOML: expected newline or end of document after a"),
        ("a = localhost", "x.toml:1: not TOML: invalid value; is it a text without quotes?"),
        ("a = 1\n\na = 2\n", "x.toml:3: not TOML: cannot overwrite a value"),
        ("[a]\n[b]\n[a]\n", "x.toml:3: not TOML: cannot declare ('a',) twice"),
        ('a = "b\nc = 1', "x.toml:1: not TOML: illegal character '\\n'"),
        ("\na = [1,\n\n\n", "x.toml:2: not TOML: invalid value"),
    ],
)
def test_a_syntax_error_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Document.parse(text, name="x.toml")
    (problem,) = raised.value.problems
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\n# \xe9t\xe9\n", "x.toml:2: byte 0xe9 is not UTF-8"),
        ("a = 1".encode("utf-16"), "x.toml:1: byte 0xff is not UTF-8"),
    ],
)
def test_what_is_not_utf8_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        Document.read(Path("x.toml"))
    assert raised.value.problems == (message,)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert Document.read(path).lines == {("a",): 1}


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, problem in (
        ("none.toml", "none.toml: no such file or directory"),
        (".", ".: is a directory"),
    ):
        with pytest.raises(ConfigError) as raised:
            Document.read(Path(name))
        assert raised.value.problems == (problem,)

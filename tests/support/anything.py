"""Whatever may stand on the wire: bodies, headers, targets, streams, cuts between segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    Fields: TypeAlias = tuple[tuple[str, str], ...]

# ---- JSON, as text: what a decoder would make equal is not equal here

_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n  "])
_NUMBERS = "0 -0 1 1.0 1.00 1e5 1E+5 -1.5e-7 0.1 12345678901234567890 9007199254740993 1e400"
_STRINGS = r"""
""
"\/"
"\u0041\n"
"\ud83d\ude00"
"😀"
"é"
"\u00e9"
"\u0000"
"a\\"
"[{,]}"
"\"usage\":null"
"data: [DONE]\n\n"
"\"stream\":true"
"""
_NUMBER = st.sampled_from(_NUMBERS.split())
_STRING = st.one_of(
    st.sampled_from(_STRINGS.split("\n")[1:-1]),
    st.text(max_size=12).map(lambda text: msgspec.json.encode(text).decode("utf-8")),
)
_ATOM = _NUMBER | _STRING | st.sampled_from(["null", "true", "false"])


def _array(items: list[str]) -> str:
    return "[" + ",".join(items) + "]"


def _object(members: list[tuple[str, str, str, str]]) -> str:
    return "{" + ",".join(f"{a}{key}{b}:{a}{value}{b}" for key, value, a, b in members) + "}"


_VALUE = st.recursive(
    _ATOM,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(_array),
        st.lists(
            st.tuples(_STRING, inner, _SPACE, _SPACE),
            max_size=3,
            unique_by=lambda member: msgspec.json.decode(member[0]),
        ).map(_object),
    ),
    max_leaves=6,
)
_MESSAGE = """
{"role":"user","content":"Hi"}
{ "content" : "é😀", "role" : "developer", "x": 1.0 }
{"role":"assistant","content":null,"tool_calls":[]}
{"role":"martian"}
null
7
"""
_MESSAGES = st.lists(st.sampled_from(_MESSAGE.split("\n")[1:-1]), max_size=4).map(_array)
_KNOWN = {
    '"messages"': _MESSAGES | _VALUE,
    '"model"': st.sampled_from(['"gpt-4o-mini"', r'"gpt\u002d4o"', '"ft:gpt-4o:org::id"', "null"]),
    '"seed"': _NUMBER,
    '"temperature"': _NUMBER,
    r'"top\u005fp"': _NUMBER,
    '"tools"': _VALUE,
    '"metadata"': _VALUE,
    '"stream_options"': st.sampled_from(["null", "{}", '{"include_obfuscation":false}', "3"]),
    '"acme_vendor_field"': _VALUE,
}


@st.composite
def chat_bodies(
    draw: st.DrawFn, *, stream: str | None = None, without: tuple[str, ...] = ()
) -> bytes:
    """Objects of strict JSON, in any order and spelling; with `"stream": stream`, if given."""
    known = [key for key in _KNOWN if key not in without]
    keys = draw(st.lists(st.sampled_from(known), max_size=5, unique=True))
    members = [(key, draw(_KNOWN[key])) for key in keys]
    if stream is not None:
        members.insert(draw(st.integers(0, len(members))), ('"stream"', stream))
    before, after = draw(_SPACE), draw(_SPACE)
    return (after + _object([(k, v, before, after) for k, v in members]) + before).encode()


_NO_CHAT = (
    b"",
    b"[]",
    b"null",
    b'"text"',
    b"{",
    b"{}{}",
    b'{"stream":true,}',
    b'{"messages":NaN}',
    b'\xef\xbb\xbf{"model":"m"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xff\xfe"}',
    b'{"a":1}\x00',
    b'{"a":1,"\\u0061":2}',
    b'{"stream":true,"stream":false}',
    b'{"stream":false, "stream":true}',
    b"[" * 600 + b"]" * 600,
)


def any_bodies() -> SearchStrategy[bytes]:
    """Bytes of any kind: JSON or not, strict or not."""
    return st.one_of(
        chat_bodies(),
        chat_bodies().map(lambda body: body[: len(body) // 2]),
        st.binary(max_size=32),
        st.sampled_from(_NO_CHAT),
    )


# ---- headers and targets

_VALUES = """
x
0
{}
"
\\
=;=
%41%2F
a, b
a  b
a,b;q=0.5
W/"1"
!#$&'*+.^_`|~
Bearer sk-é€
😀
Mon, 01 Jan 2024 00:00:00 GMT
"""
_values = st.one_of(
    st.sampled_from([*_VALUES.split("\n")[:-1], "tab\there", "x" * 8_500, "y" * 30_000]),
    st.text("aB0 ,;=\"'~\té", max_size=6).map(lambda text: text.strip(" \t")),
)
_REQUEST_NAMES = """
Authorization User-Agent OpenAI-Organization OpenAI-Project OpenAI-Beta Idempotency-Key api-key
X-Stainless-Lang X-Stainless-Retry-Count traceparent tracestate baggage Accept Accept-Encoding
Accept-Language Cookie If-None-Match Range Content-Encoding Content-Language Date Via
X-Forwarded-For Forwarded Origin Referer Cache-Control Content-Type X-Request-Id
"""
_RESPONSE_NAMES = """
Set-Cookie Set-Cookie retry-after retry-after-ms x-ratelimit-limit-requests x-request-id Server
x-ratelimit-remaining-tokens openai-processing-ms openai-version openai-organization Date ETag
Location WWW-Authenticate Vary Link Cache-Control cf-ray X-Should-Retry Content-Language
Access-Control-Allow-Origin Strict-Transport-Security
"""
_ODD_NAMES = "x-0 X-0 x !#$%&'*+-.^_`|~09Az X_under_score DNT priority"
# aiohttp refuses requests that have one of these twice, as RFC 9110, section 5.3, allows it to.
_ONCE = ("content-type", "user-agent", "content-encoding")


def _fields(names: str) -> SearchStrategy[Fields]:
    spelled = [case(name) for name in f"{names} {_ODD_NAMES}".split() for case in _CASES]
    return st.lists(st.tuples(st.sampled_from(spelled), _values), max_size=7).map(_valid)


_CASES = (str, str.lower, str.upper, str.swapcase)


def _valid(fields: list[tuple[str, str]]) -> Fields:
    kept, seen = [], set()
    for name, value in fields:
        lower = name.lower()
        if not (lower in _ONCE and lower in seen):
            kept.append((name, _sensible(name, value)))
        seen.add(lower)
    return tuple(kept)


def _sensible(name: str, value: str) -> str:
    """Values that mean something to HTTP itself keep their meaning."""
    match name.lower():
        case "content-encoding":
            return "identity"
        case "location":
            return "https://elsewhere.test/" + value.replace(" ", "")
        case _:
            return value


def request_fields() -> SearchStrategy[Fields]:
    return _fields(_REQUEST_NAMES)


def response_fields() -> SearchStrategy[Fields]:
    return _fields(_RESPONSE_NAMES)


_SEGMENTS = """
models files responses ft:gpt-4o:org::id org%2Fmodel a%2Bb a+b %C3%A9 %e2%82%ac ~x a%20b x;y=1 @me
100%25 (a)!*' ... %7Euser
"""
_SEGMENT = st.one_of(
    st.sampled_from([*_SEGMENTS.split(), ""]),
    st.text("abcXYZ019-._~!$&'()*+,;=:@", min_size=1, max_size=10),
).filter(lambda segment: segment not in (".", ".."))
_QUERIES = "?limit=2&after=x%2Fy ?a=1&a=2&b ?q=a+b%20c%2B ?x=%C3%A9&y=[] ?=&& ?a=b?c/d"
_QUERY = st.one_of(
    st.just(""),
    st.sampled_from(_QUERIES.split()),
    st.text("abc019-._~!$&'()*+,;=:@/?", min_size=1, max_size=20).map(lambda text: "?" + text),
)


def targets() -> SearchStrategy[str]:
    """Targets below /v1, with a query or without."""
    path = st.lists(_SEGMENT, min_size=1, max_size=4).map(lambda parts: "/v1/" + "/".join(parts))
    return st.builds(str.__add__, path, _QUERY)


# ---- answers

LARGE = bytes(range(256)) * 300
"""More than a socket takes at once."""


@dataclass(frozen=True)
class Reply:
    """What an upstream answers."""

    status: int
    reason: str
    fields: Fields
    body: bytes
    framing: str
    """`length`, `chunked` or `close`."""
    cuts: tuple[int, ...]


_STATUS = st.one_of(
    st.just(200),
    st.sampled_from([201, 202, 204, 206, 299, 301, 304, 307]),
    st.sampled_from([400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 426, 429, 451]),
    st.sampled_from([500, 502, 503, 504, 529, 599]),
)
_REASON = st.sampled_from(["OK", "", "Too Many Requests", "Très bien", "no, thank you"])
_KINDS = """
application/json
APPLICATION/JSON
application/json; charset=utf-8
application/problem+json
text/html
audio/mpeg
multipart/form-data; boundary=x
"""
_KIND = st.sampled_from(_KINDS.split("\n")[:-1])  # the first is none


@st.composite
def replies(draw: st.DrawFn, framings: tuple[str, ...] = ("length", "chunked", "close")) -> Reply:
    """Answers in one piece, errors among them."""
    fields = draw(response_fields())
    if kind := draw(_KIND):
        fields = (*fields, ("Content-Type", kind))
    return Reply(
        draw(_STATUS),
        draw(_REASON),
        fields,
        draw(any_bodies() | st.just(LARGE)),
        draw(st.sampled_from(framings)),
        draw(cuts()),
    )


def cuts() -> SearchStrategy[tuple[int, ...]]:
    """Where to cut bytes into segments; (1,) cuts them all apart."""
    return st.one_of(
        st.just((1,)),
        st.lists(st.integers(1, 90), max_size=6).map(tuple),
        st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple),
    )


def cut(data: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    """Bytes in segments of these sizes; a single size goes for all of them."""
    if len(data) > 2_000:
        sizes = tuple(size * 500 for size in sizes)
    if len(sizes) == 1:
        return [data[at : at + sizes[0]] for at in range(0, len(data), sizes[0])]
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in (*pieces, data[at:]) if piece]


# ---- streams

_CHUNKS = """
{"id":"c1","choices":[{"index":0,"delta":{"content":"Hé"},"finish_reason":null}]}
{"choices": [ {"index":1, "delta":{}, "finish_reason": "stop"} ], "x": 1.0}
{"choices":[{"delta":{"content":"日本😀","reasoning_content":"…"}}]}
{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}
{"choices":[{"delta":{}}],"usage":null}
{"error":{"message":"no","code":null}}
{}
[DONE]
 [DONE]
not json
"""
_CHUNK = st.one_of(
    st.sampled_from([*(line.encode() for line in _CHUNKS.split("\n")[:-1]), b"\xff\xfe"]),
    st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=10).map(str.encode),
)
_OTHER_LINES = b"""
: OPENROUTER PROCESSING
:
: data: [DONE]
event: message
event: error
event:
id: 7
id
retry: 3000
data
unknown: field
  data: x
"""
_LINE = st.one_of(
    _CHUNK.map(lambda payload: b"data: " + payload),
    _CHUNK.map(lambda payload: b"data: " + payload),
    _CHUNK.map(lambda payload: b"data:" + payload),
    st.sampled_from(_OTHER_LINES.split(b"\n")[1:-1]),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Server-sent events as servers write them, and as they should not."""
    ends = draw(st.sampled_from([[b"\n"]] * 4 + [[b"\r\n"], [b"\r"], [b"\n", b"\r\n", b"\r"]]))
    end = st.sampled_from(ends)
    stream = draw(st.sampled_from([b""] * 4 + [b"\xef\xbb\xbf"]))
    for _ in range(draw(st.integers(0, 6))):
        for line in draw(st.lists(_LINE, min_size=1, max_size=3)):
            stream += line + draw(end)
        stream += draw(end)
    stream += draw(st.sampled_from([b"data: [DONE]\n\n"] * 4 + [b"", b"data: [DONE]", b"data: {"]))
    return stream

from __future__ import annotations

import ctypes
import gzip
import importlib
import random
import shutil
import subprocess
import sys
import unicodedata
import warnings
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from proxy.tokens import vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.tokens.text import Vocabularies

SCRIPTS = {
    "English": "the quick brown fox doesn't jump over 12 lazy dogs, it's said; 'twas I'LL WE'RE ",
    "Chinese": "我们昨天在北京看了一场电影，觉得很好看。你呢？一二三，上海、广州；",
    "Japanese": "これはペンです。カタカナとひらがな、漢字も混ざっている！",
    "Korean": "안녕하세요. 오늘 날씨가 정말 좋네요, 그렇죠?",
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Arabic": "مرحبا بالعالم، كيف حالك اليوم؟ ١٢٣",
    "Hindi": "नमस्ते दुनिया, आप कैसे हैं? १२३",
    "Thai": "สวัสดีชาวโลก วันนี้เป็นอย่างไรบ้าง",
    "emoji": "😀👍🏽👨‍👩‍👧‍👦🇩🇪❤️‍🔥 ",
    "code": "def f(x):\n\treturn {'a': [1, 2.5e-3], \"b\": None}  # ok?\r\n\r\n\n    <|endoftext|>",
    "spaces": " \t\n\r\u00a0\u3000\u2028\u200b",
}


def generated_strings(count: int) -> list[str]:
    """Mixtures of scripts, and of any assigned characters at all."""
    pick = random.Random(20_251)
    alphabets = list(SCRIPTS.values())
    assigned = [chr(code) for code in range(0x30000) if unicodedata.category(chr(code))[0] != "C"]
    strings = []
    for index in range(count):
        alphabet = assigned if index % 4 == 0 else "".join(pick.sample(alphabets, 2))
        strings.append("".join(pick.choices(alphabet, k=pick.randint(1, 60))))
        start = pick.randrange(len(alphabets[index % len(alphabets)]))
        strings[-1] += alphabets[index % len(alphabets)][start : start + pick.randint(1, 40)]
    return strings


@pytest.fixture(scope="module")
def bpe_openai() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it opens its files in an old way
        return importlib.import_module("bpe_openai")


@pytest.mark.parametrize("name", sorted(vocabulary.ENCODINGS))
def test_ids_equal_those_of_an_independent_encoder(
    vocabularies: Vocabularies, bpe_openai: Any, name: str
) -> None:
    ours = vocabularies.load(name)
    theirs = bpe_openai.get_encoding(name)
    strings = generated_strings(2_500)
    assert [ours.encode_ordinary(string) for string in strings] == [
        theirs.encode_ordinary(string) for string in strings
    ]


@pytest.mark.parametrize("name", sorted(vocabulary.ENCODINGS))
def test_sum_and_pattern_are_those_of_tiktoken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pins: dict[str, Any] = {}
    public = importlib.import_module("tiktoken_ext.openai_public")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda _url, **pin: pins.update(pin))
    theirs = getattr(public, name)()
    ours = vocabulary._PUBLISHED[name]
    assert ours.sha256 == pins["expected_hash"]
    assert ours.pattern == theirs["pat_str"]


@pytest.fixture
def vendored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the vendored files, which is loaded instead of them."""
    shutil.copytree(resources.files("proxy.tokens") / "vocabularies", tmp_path / "vocabularies")  # type: ignore[arg-type]
    monkeypatch.setattr(resources, "files", lambda _package: tmp_path)
    vocabulary.load.cache_clear()
    return tmp_path / "vocabularies" / "cl100k_base.tiktoken.gz"


def test_a_changed_vocabulary_is_refused(vendored: Path) -> None:
    ranks = gzip.decompress(vendored.read_bytes())
    vendored.write_bytes(gzip.compress(ranks.replace(b" 1000\n", b" 1001\n", 1), 1))
    with pytest.raises(vocabulary.VocabularyError, match="not the one OpenAI published"):
        vocabulary.load("cl100k_base")


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbled"])
def test_a_damaged_vocabulary_is_refused(vendored: Path, damage: str) -> None:
    packed = vendored.read_bytes()
    if damage == "missing":
        vendored.unlink()
    elif damage == "truncated":
        vendored.write_bytes(packed[:1000])
    else:
        vendored.write_bytes(packed[:1000] + bytes(1000) + packed[2000:])
    with pytest.raises(vocabulary.VocabularyError, match="cannot be read"):
        vocabulary.load("cl100k_base")


def test_a_c_library_that_cannot_return_memory_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    vocabulary._return_memory()


OFFLINE = """
import asyncio, socket

def refuse(*_args, **_kwargs):
    raise OSError("no network")

loop = asyncio.new_event_loop()  # it has a pair of sockets of its own
socket.socket = socket.create_connection = socket.getaddrinfo = refuse

from proxy.tokens import Tokenizer

async def main():
    tokenizer = Tokenizer()
    body = {"messages": [{"role": "user", "content": "hello world"}]}
    for model in ("gpt-4o", "gpt-4"):
        print(await tokenizer.count(body, model=model))
    tokenizer.close()

loop.run_until_complete(main())
"""


def test_counting_needs_no_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        capture_output=True,
        text=True,
        check=True,
        env={"TIKTOKEN_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.count("Count(tokens=9, exactness='exact'") == 2
    assert not list(tmp_path.iterdir())

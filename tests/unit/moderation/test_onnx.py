"""A classifier in ONNX, run by the real runtime."""

from __future__ import annotations

import pytest

from plugins.moderation.onnx_model import TOKENS, OnnxModel
from tests.support import onnx_folder

for package in ("onnx", "onnxruntime", "tokenizers"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def loaded(folder, **config):
    model = OnnxModel(folder, onnx_folder.make(folder, **config))
    model.load()
    return model


def worst(model, text):
    parts = list(model.parts(text))
    return {label: max(part.scores[label] for part in parts) for label in model.labels}


def test_each_label_has_its_score(tmp_path):
    model = loaded(tmp_path)
    assert model.labels == onnx_folder.LABELS
    assert worst(model, "what a NASTY day") == pytest.approx(
        {"toxicity": 0.982, "threat": 0.018}, abs=1e-3
    )
    assert worst(model, "a bomb")["threat"] > 0.9
    assert worst(model, "")["toxicity"] < 0.1


def test_labels_that_exclude_each_other_share_one(tmp_path):
    model = loaded(tmp_path, problem_type="single_label_classification")
    scores = worst(model, "nasty")
    assert scores["toxicity"] > 0.99
    assert sum(scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("place", [0, TOKENS - 2, 2 * TOKENS, 9_999])
def test_a_long_text_is_judged_to_its_end_and_the_part_is_known(tmp_path, place):
    model = loaded(tmp_path)
    words = ["fine"] * 10_000
    words[place] = "nasty"
    text = " ".join(words)
    parts = list(model.parts(text))
    assert all(len(text[part.start : part.end].split()) <= TOKENS for part in parts)
    for part in parts:
        assert (part.scores["toxicity"] > 0.9) == ("nasty" in text[part.start : part.end])
    assert any(part.scores["toxicity"] > 0.9 for part in parts)


def test_another_model_than_the_one_that_is_pinned_is_not_loaded(tmp_path):
    pinned = onnx_folder.make(tmp_path)
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="pinned"):
        OnnxModel(tmp_path, pinned).load()


def test_a_config_of_another_model_is_noticed(tmp_path):
    with pytest.raises(ValueError, match="2 outputs"):
        loaded(tmp_path, id2label={"0": "toxicity"})


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", "{}", ValueError),
        ("config.json", "[1]", ValueError),
        ("config.json", "no JSON", ValueError),
        ("config.json", None, OSError),
        ("tokenizer.json", "{}", ValueError),
        ("tokenizer.json", None, OSError),
        ("model.onnx", None, OSError),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, error):
    pinned = onnx_folder.make(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=name):
        OnnxModel(tmp_path, pinned).load()

"""Detoxify with a checkpoint on this machine: a small one, with the form of those that it publishes."""

from __future__ import annotations

from hashlib import sha256

import pytest

from plugins.moderation.detoxify_model import LENGTH, DetoxifyModel

pytest.importorskip("detoxify", reason="detoxify, with torch 5.7 GB, is not installed")

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] what a nasty day".split()


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a BERT of random weights, and its model."""
    import torch
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=len(WORDS), intermediate_size=64, **sizes)
    model = transformers.BertForSequenceClassification(config).eval()
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    names = {"model_name": "BertForSequenceClassification", "tokenizer_name": "BertTokenizer"}
    arch = {"args": {"model_type": "bert-base-uncased", "num_classes": 2, **names}}
    dataset = {"args": {"classes": ["toxic", "threat"]}}
    loaded = {"config": {"arch": arch, "dataset": dataset}, "state_dict": model.state_dict()}
    torch.save(loaded, tmp_path / "model.ckpt")
    given = tokenizer("what a nasty day", return_tensors="pt")
    expected = torch.sigmoid(model(**given)[0])[0].tolist()
    return tmp_path, sha256((tmp_path / "model.ckpt").read_bytes()).hexdigest(), expected


def test_it_is_loaded_without_a_network_and_judges_to_the_end(checkpoint):
    folder, pin, expected = checkpoint
    model = DetoxifyModel(folder, pin)
    model.load()
    assert model.labels == ("toxicity", "threat")
    (part,) = model.parts("what a nasty day")
    assert list(part.scores.values()) == pytest.approx(expected, abs=1e-5)
    *_, last = model.parts("day " * LENGTH)
    assert last.end == 4 * LENGTH


def test_another_checkpoint_is_not_loaded(checkpoint):
    folder, _, _ = checkpoint
    with pytest.raises(ValueError, match="pinned"):
        DetoxifyModel(folder, "0" * 64).load()

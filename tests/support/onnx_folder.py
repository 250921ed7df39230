"""A real classifier in ONNX that knows one word of each category: small enough to be made here."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("toxicity", "threat")
WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "nasty": 4, "bomb": 5, "broken": 99}
"""The model fails where it sees the last of them: it has no scores for so many."""
SURE = 4.0
"""The logit of a category whose word occurs; 0.982 after the sigmoid."""


def make(folder: Path, **config: Any) -> str:
    """Write the model, its tokenizer and its config.json; returns the SHA-256 of the model."""
    names = {str(place): label for place, label in enumerate(LABELS)}
    problem = {"problem_type": "multi_label_classification"}
    (folder / "config.json").write_bytes(
        msgspec.json.encode({"id2label": names, **problem, **config})
    )
    _tokenizer().save(str(folder / "tokenizer.json"))
    model: bytes = _model().SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    return sha256(model).hexdigest()


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, WORDS[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return made


def _model() -> Any:
    """Each token has a score for each label; the highest of a text counts."""
    from onnx import TensorProto, helper

    size = len(WORDS) - 1
    scores = [-SURE] * len(LABELS) * size
    for place, word in enumerate(("nasty", "bomb")):
        scores[len(LABELS) * WORDS[word] + place] = SURE
    shape = ["batch", "length"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])
    weights = helper.make_tensor("scores", TensorProto.FLOAT, [size, len(LABELS)], scores)
    last, one = (
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in (("last", 2), ("one", 1))
    )
    nodes = [
        helper.make_node("Gather", ["scores", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["where"]),
        helper.make_node("Mul", ["found", "where"], ["heeded"]),
        helper.make_node("ReduceMax", ["heeded", "one"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "words", inputs, [output], [weights, last, one])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)

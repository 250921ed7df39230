"""A classifier in a folder: model.onnx, tokenizer.json and config.json, as Hugging Face lays them."""

from __future__ import annotations

from hashlib import file_digest
from typing import TYPE_CHECKING, Any

import msgspec

from .classifier import Part
from .texts import slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TOKENS, OVERLAP = 250, 50
"""Tokens that are judged together: BERT in int8 takes 90 ms for so many, and 240 ms for 500."""


class OnnxModel:
    """Judges a text window by window."""

    def __init__(self, folder: Path, sha256: str | None) -> None:
        self._folder = folder
        self._sha256 = sha256
        self.labels: Sequence[str] = ()

    def load(self) -> None:
        try:
            from onnxruntime import InferenceSession, SessionOptions
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError("pip install 'dragoman[onnx]'") from error
        verify(self._folder / "model.onnx", self._sha256)
        self._configure(self._folder / "config.json")
        vocabulary = self._folder / "tokenizer.json"
        vocabulary.open("rb").close()  # OSError with its name
        try:
            self._tokenizer = Tokenizer.from_file(str(vocabulary))
        except Exception as error:  # that is what it raises
            raise ValueError(f"{vocabulary}: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS, stride=OVERLAP)
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised, and logged once
        self._session = InferenceSession(
            str(self._folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {each.name for each in self._session.get_inputs()}
        if len(scores := self._scores(self._tokenizer.encode("."))) != len(self.labels):
            raise ValueError(f"the model has {len(scores)} outputs, config.json {len(self.labels)}")

    def _configure(self, file: Path) -> None:
        try:
            config = msgspec.json.decode(file.read_bytes())
            names = {int(place): str(name) for place, name in config["id2label"].items()}
            self.labels = tuple(names[place] for place in range(len(names)))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{file}: has no id2label with a name for each output") from error
        self._one_of_them = config.get("problem_type") == "single_label_classification"

    def parts(self, text: str) -> Iterator[Part]:
        for at, piece in slices(text):  # the tokenizer would take all of a long text at once
            first = self._tokenizer.encode(piece)
            for window in (first, *first.overflowing):
                ends = [end for _, end in window.offsets]
                starts = [start for start, end in window.offsets if end > start]
                scores = dict(zip(self.labels, self._scores(window), strict=True))
                yield Part(at + min(starts, default=0), at + max(ends, default=0), scores)

    def _scores(self, window: Any) -> Sequence[float]:
        import numpy as np

        given = {
            "input_ids": window.ids,
            "attention_mask": window.attention_mask,
            "token_type_ids": window.type_ids,
        }
        inputs = {name: np.array([given[name]], dtype=np.int64) for name in self._inputs}
        logits = np.asarray(self._session.run(None, inputs)[0][0], dtype=np.float64)
        if self._one_of_them:
            exponents = np.exp(logits - logits.max())
            return list(map(float, exponents / exponents.sum()))
        return list(map(float, 1 / (1 + np.exp(-logits))))


def verify(file: Path, sha256: str | None) -> None:
    """ValueError if it is not the file that the operator means."""
    if sha256 is None:
        return
    with file.open("rb") as opened:
        found = file_digest(opened, "sha256").hexdigest()
    if found != sha256.lower():
        raise ValueError(f"the SHA-256 of {file} is {found}, and not the one that is pinned")

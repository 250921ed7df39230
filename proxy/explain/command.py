"""From the words of a command line to an explanation, and to what is printed of it."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from proxy import strictjson
from proxy.errors import ConfigError

from .document import document
from .report import report
from .run import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.config import Configuration

    from .account import Explanation

# RFC 9110, sections 5.6.2 and 5.5
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


def explained(configuration: Configuration, file: str, headers: Sequence[str]) -> Explanation:
    """What becomes of the request in a file.  ConfigError if it cannot be tried."""
    fields = [_field(header) for header in headers]
    data = _body(file)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return uvloop.run(explain(configuration, data, fields))


def as_json(explanation: Explanation) -> str:
    return document(explanation).decode()


def as_text(explanation: Explanation, *, colour: bool) -> str:
    return "\n".join(report(explanation, colour=colour))


def _body(file: str) -> bytes:
    """The request.  ConfigError if it cannot be read, or if the proxy would refuse it unread."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        strictjson.decode_object(data)
    except OSError as error:
        raise ConfigError([f"{file}: {(error.strerror or str(error)).lower()}"]) from None
    except strictjson.JSONError as error:
        raise ConfigError([f"{'stdin' if file == '-' else file}: {error}"]) from None
    return data


def _field(header: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(header)
    if match is None:  # and it is not quoted: it may hold a key
        raise ConfigError(["-H: should be a header, as in 'x-dragoman-scene: code'"])
    return match[1], match[2].rstrip()

"""Configurations written as text: what they come to, or all that is wrong with them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ConfigError
from proxy.startup import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.config import Configuration

UPSTREAM = '[upstream]\nbase_url = "http://127.0.0.1:1/v1"\n'
HASH = "0123456789abcdef" * 4


def configuration(
    text: str | None = None, environ: Mapping[str, str] | None = None, **flags: str
) -> Configuration:
    """What config.toml holding this text, these variables and these flags come to.

    The file is written to the working folder; without a text there is none.
    """
    path = None
    if text is not None:
        path = Path("config.toml")
        path.write_text(dedent(text))
    given = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
    return load(path, given, environ or {})


def problems(
    text: str | None = None, environ: Mapping[str, str] | None = None, **flags: str
) -> list[str]:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as raised:
        configuration(text, environ, **flags)
    return list(raised.value.problems)


PLUGIN = '''
    from pydantic import SecretStr
    from proxy.plugin import Options, Plugin

    class ShoutOptions(Options):
        volume: int = 1
        token: SecretStr | None = None

    class Shout(Plugin[ShoutOptions]):
        """Says it louder.

        Much louder."""

        Config = ShoutOptions
        timeout = 2.5
        on_error = "open"

        @classmethod
        def summary(cls, config):
            return f"volume {config.volume}"
'''


def plugin_file(code: str = PLUGIN, name: str = "mine.py") -> None:
    """Write a file that holds a plugin, `Shout`."""
    Path(name).write_text(dedent(code))


def table_problems(tables: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with these [[plugins]] tables; lines are counted from their first."""
    lines = []
    for problem in problems(UPSTREAM + dedent(tables), environ):
        file, line, message = problem.split(":", 2)
        assert file == "config.toml"
        lines.append(f"{int(line) - UPSTREAM.count(chr(10))}:{message}")
    return lines

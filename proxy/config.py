"""The settings: a TOML file, above it the environment, above that the command line.

A variable is named after its place, DRAGOMAN_SERVER__PORT for `port` of `[server]`.
Where the setting is a text, the variable's value is taken as it is; elsewhere it is read as TOML
(`9000`, `true`, `{ "my-gpt4" = "cl100k_base" }`), and is a text if it is none (`30 s`).  Flags are
read likewise.  Any text, of plugins too, may be "env:NAME": the value of that variable.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from . import rules
from .document import Document
from .fields import keys, types_at
from .mistakes import Mistakes
from .settings import Section, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .document import Place
    from .plugin import Plugin
    from .registry import Chosen

PREFIX = "DRAGOMAN_"
DEFAULT_FILE = Path("dragoman.toml")
FILE_VARIABLE = "DRAGOMAN_CONFIG"

FLAGS: Mapping[str, Place] = {
    "--upstream": ("upstream", "base_url"),
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--admin-port": ("server", "admin_port"),
    "--workers": ("server", "workers"),
    "--log-level": ("server", "log_level"),
}

_REFERENCE = re.compile(r"env:(\S*)")

# Kubernetes puts such variables into each pod of a namespace that has a service named dragoman:
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_SERVICE_LINK = re.compile(
    r"DRAGOMAN_(\w+_)?((SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_\w+)=.*|PORT=\w+://.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration without mistakes."""

    settings: Settings
    plugins: tuple[Chosen, ...]
    """Those that are enabled, outermost first."""
    path: Path | None
    warnings: tuple[str, ...]
    """What is allowed, and seldom meant."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration that was read.  Its plugins are still to be found, and its mistakes told."""

    path: Path | None
    settings: Settings
    """Without the values that are wrong."""
    tables: tuple[Any, ...]
    """The `[[plugins]]` tables."""
    mistakes: Mistakes
    at_hand: Mapping[str, type[Plugin[Any]]] = dataclasses.field(default_factory=dict)
    """Classes that `use` may name besides those that are installed."""

    @property
    def folder(self) -> Path:
        """Where relative paths in the configuration start."""
        return self.path.parent if self.path else Path()


def find(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that was given, else $DRAGOMAN_CONFIG, else dragoman.toml if there is one."""
    if given is not None:
        return given
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read(path: Path | None, flags: Mapping[str, str], environ: Mapping[str, str]) -> Draft:
    """Read and check everything but plugins.  ConfigError if the file itself cannot be read."""
    document = Document.read(path) if path else None
    mistakes = Mistakes(document)
    values: dict[str, Any] = document.values if document else {}
    for place, name, text in _overrides(flags, environ, mistakes):
        mistakes.overrides[place] = name
        values = _with(values, place, _value(text, place))
    values = _resolved(values, (), environ, mistakes)
    settings = _settings(values, mistakes)
    rules.check(settings, mistakes)
    tables = values.get("plugins")
    return Draft(path, settings, tuple(tables) if isinstance(tables, list) else (), mistakes)


def variables(section: type[Section] = Settings, place: Place = ()) -> dict[str, Place]:
    """Each variable that is a setting, and its place."""
    found: dict[str, Place] = {}
    for key, field in keys(section):
        inner = (*place, key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found |= variables(field.annotation, inner)
        else:
            found[PREFIX + "__".join(str(part) for part in inner).upper()] = inner
    return found


def _overrides(
    flags: Mapping[str, str], environ: Mapping[str, str], mistakes: Mistakes
) -> Iterator[tuple[Place, str, str]]:
    """What stands above the file: place, the name of the variable or flag, and its text."""
    known = variables()
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE:
            continue
        if _SERVICE_LINK.fullmatch(f"{name}={text}"):
            continue
        if name not in known:
            mistakes.add_text((), f"unknown variable {name}{_similar(name, known)}")
        elif not text.strip():
            mistakes.add_text((), f"{name}: is empty; unset it, or give it a value")
        else:
            yield known[name], name, text
    for flag, text in flags.items():
        yield FLAGS[flag], flag, text


def _similar(name: str, known: Iterable[str]) -> str:
    words = [each.removeprefix(PREFIX) for each in known]
    near = get_close_matches(name.removeprefix(PREFIX), words, n=1)
    return f"; did you mean {PREFIX}{near[0]}?" if near else ""


def _value(text: str, place: Place) -> Any:
    if not any(issubclass(kind, (int, float, tuple, dict)) for kind in types_at(Settings, place)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _with(values: Any, place: Place, value: Any) -> Any:
    """A copy with the value at a place; the same, if something on the way there is no table."""
    if not place:
        return value
    if not isinstance(values, dict):
        return values
    first, *rest = place
    return {**values, first: _with(values.get(first, {}), tuple(rest), value)}


def _resolved(value: Any, place: Place, environ: Mapping[str, str], mistakes: Mistakes) -> Any:
    """A copy with each "env:NAME" replaced by that variable."""
    if isinstance(value, dict):
        return {
            key: _resolved(inner, (*place, key), environ, mistakes) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            _resolved(inner, (*place, index), environ, mistakes)
            for index, inner in enumerate(value)
        ]
    if not isinstance(value, str) or (match := _REFERENCE.fullmatch(value)) is None:
        return value
    text = environ.get(match[1])
    if text is None or not text.strip():
        state = "is not set" if text is None else "is empty"
        mistakes.add(place, f"the environment variable {match[1]!r} {state}")
        return value
    mistakes.secrets.add(text)
    return text


def _settings(values: dict[str, Any], mistakes: Mistakes) -> Settings:
    """The settings as far as they are right."""
    upstream = values.setdefault("upstream", {})
    if isinstance(upstream, dict) and "base_url" not in upstream:
        mistakes.add_text(
            ("upstream", "base_url"),
            "no upstream: run with --upstream https://api.openai.com/v1, or write "
            'base_url = "https://api.openai.com/v1" under [upstream] in '
            f"{mistakes.document.name if mistakes.document else DEFAULT_FILE}",
        )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        mistakes.add_invalid(error, Settings, values)
    sound = values
    for mistake in mistakes.found:
        sound = _without(sound, mistake.place)
    nowhere = {"base_url": "http://upstream.invalid", **sound.get("upstream", {})}
    return Settings.model_validate({**sound, "upstream": nowhere})


def _without(values: Any, place: Place) -> Any:
    """A copy without the value at a place; without the whole array, if it stands in one."""
    if not place or not isinstance(values, dict) or place[0] not in values:
        return values
    first, *rest = place
    if not rest or isinstance(rest[0], int):
        return {key: inner for key, inner in values.items() if key != first}
    return {**values, first: _without(values[first], tuple(rest))}

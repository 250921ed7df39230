"""Finds the classes of plugins: installed ones by their entry points, local ones by their file."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from hashlib import sha256
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from .mistakes import suggestion
from .plugin import Plugin
from .stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from .stamps import Stamp

GROUP = "dragoman.plugins"
_IN_A_FILE = re.compile(r"(?P<file>.*\.py)(?::(?P<name>\w+))?")
_read: dict[str, Stamp] = {}
"""The modules of local plugins, and the stamps of their files when they were read."""


class NotAPlugin(Exception):
    """What `use` names cannot be used; the message says why."""


def find(use: str, folder: Path) -> type[Plugin[Any]]:
    """The class that `use` names; a file is looked for in `folder`.

    Only the module of that class is imported.  NotAPlugin if there is none, or if it fails.
    """
    match = _IN_A_FILE.fullmatch(use)
    try:
        found = _in_file(folder / match["file"], match["name"]) if match else _installed(use).load()
    except NotAPlugin:
        raise
    except (Exception, SystemExit) as error:  # a stranger's module: anything may happen
        failure = f"{type(error).__name__}: {error}{_origin(error)}"
        raise NotAPlugin(f"plugin {use!r} cannot be imported: {failure}") from error
    if not isinstance(found, type) or not issubclass(found, Plugin):
        raise NotAPlugin(f"{use!r} is no class derived from proxy.plugin.Plugin")
    options: object = found.Config
    if not isinstance(options, type) or not issubclass(options, BaseModel):
        raise NotAPlugin(f"the Config of {use!r} is not derived from proxy.plugin.Options")
    return found


def file_of(use: str, folder: Path) -> Path | None:
    """The file that `use` names; None if it names an installed plugin."""
    match = _IN_A_FILE.fullmatch(use)
    return folder / match["file"] if match else None


def installed() -> list[EntryPoint]:
    """The entry points of all plugins that are installed, by name."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that brings an entry point."""
    return (point.dist.name, point.dist.version) if point.dist else ("", "")


def _installed(use: str) -> EntryPoint:
    found = [point for point in installed() if point.name == use]
    if len(found) == 1:
        return found[0]
    if found:
        owners = " and ".join(distribution(point)[0] for point in found)
        raise NotAPlugin(f"plugin {use!r} is in {owners}; uninstall all but one of them")
    names = sorted({point.name for point in installed()})
    near = get_close_matches(use, names, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise NotAPlugin(f"no plugin named {use!r}{meant} (installed: {', '.join(names) or 'none'})")


def _in_file(path: Path, name: str | None) -> Any:
    if name is None:
        raise NotAPlugin(f'use = "{path}:Class" must say which class')
    if not path.is_file():
        raise NotAPlugin(f"there is no file {path}")
    module = _module(path.resolve())
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise NotAPlugin(f"{path} has no class {name!r}{suggestion(name, classes)}")
    return getattr(module, name)


def _module(path: Path) -> ModuleType:
    """Import a file, by a name that no other module can have; again only if it has changed."""
    name = f"dragoman_plugin_{sha256(str(path).encode()).hexdigest()[:16]}"
    before, now = sys.modules.get(name), stamp(path)
    if before is not None and _read[name] == now:
        return before
    loader = _Source(name, str(path))
    module = module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    _read[name] = now
    return module


class _Source(SourceFileLoader):
    """Reads the source each time: what is cached of it goes by whole seconds."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(path)


def _origin(error: BaseException) -> str:
    """Where in the plugin's own code an import failed; nothing if that was not reached."""
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and "importlib" not in Path(frame.filename).parts
    ]
    path = Path(frames[-1].filename)  # this file's, if no other
    return "" if path == Path(__file__) else f" ({path.name}:{frames[-1].lineno})"

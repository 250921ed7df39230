"""Whether `proxy` and `plugins` are ours: others install packages by these names, too."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path


def conflict() -> str | None:
    """What keeps this process from importing our own packages; None if nothing does."""
    try:
        distribution("proxy.py")  # https://pypi.org/project/proxy.py/
    except PackageNotFoundError:
        pass
    else:
        return (
            "the distribution proxy.py installs a package `proxy`, as dragoman does: "
            "pip uninstall proxy.py, or install dragoman in an environment of its own"
        )
    ours = Path(__file__).resolve().parent.parent / "plugins"
    spec = find_spec("plugins")
    folder = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if folder != ours:
        return f"the package `plugins` should be {ours}, but {folder or 'nothing'} is imported"
    return None

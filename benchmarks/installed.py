"""What an installation weighs: a fresh environment with what the proxy needs, and no more."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from .targets import ROOT


def installed() -> dict[str, float]:
    """Packages, and MiB with the compiled .pyc.  pip and setuptools are the environment's own."""
    with tempfile.TemporaryDirectory(prefix="dragoman-installed-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        lock = str(ROOT / "requirements.lock")
        subprocess.run([*pip, "install", "--require-hashes", "-r", lock], check=True)
        subprocess.run([*pip, "install", "--no-deps", str(ROOT)], check=True)
        (site,) = Path(folder).glob("lib/python*/site-packages")
        ours = [
            entry
            for entry in site.iterdir()
            if not entry.name.startswith(("pip", "setuptools", "pkg_resources", "_distutils"))
        ]
        files = [file for entry in ours for file in (entry, *entry.rglob("*"))]
        return {
            "packages": sum(entry.suffix == ".dist-info" for entry in ours),
            "mib": sum(file.lstat().st_blocks for file in files) * 512 / (1 << 20),
        }

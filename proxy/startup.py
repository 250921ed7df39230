"""From a file, the environment and flags to a configuration that may run; what is said of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import __version__, config, registry, telemetry
from .config import Configuration
from .store.address import Address

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .registry import Chosen
    from .settings import Settings

UNGUARDED = "/responses /completions /conversations /threads /batches /realtime and others"


def load(
    path: Path | None,
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Configuration:
    """Read the configuration and find its plugins.  ConfigError with all mistakes if there are any.

    `flags` are those of `config.FLAGS` that were given; they stand above `environ`, and that above
    the file.
    """
    draft = config.read(path, flags or {}, environ)
    chosen = registry.choose(draft)
    draft.mistakes.check()
    doubts = registry.doubtful_order(chosen)
    warnings = tuple(draft.mistakes.cite(place) + doubt for place, doubt in doubts)
    return Configuration(draft.settings, chosen, draft.path, warnings)


def startup_lines(
    configuration: Configuration,
    *,
    port: int | None = None,
    admin_port: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """What the server says when it is up.  The ports are those it got, where 0 was asked for."""
    settings, plugins = configuration.settings, configuration.plugins
    server = settings.server
    here = _address(server.host, server.port if port is None else port)
    admin = _address(server.admin_host, server.admin_port if admin_port is None else admin_port)
    lines = [f"dragoman {__version__}  {here}/v1 -> {_without_secrets(settings.upstream.base_url)}"]
    lines += _plugin_lines(plugins)
    if (store := Address.parse(settings.store.url.get_secret_value())).kind != "memory":
        lines.append(f"store {store}{', with keys of clients' if settings.store.keys else ''}")
        if settings.store.secret is None:
            what = "these workers store" if server.workers > 1 else "this one stores"
            lines.append(f"store.secret is not set: other processes cannot use what {what}")
    if server.workers > 1:
        lines.append(f"{server.workers} workers")
    lines.append(_traces(settings, environ))
    lines.append(f"admin {admin}/healthz /readyz /metrics")
    blind = [
        each.name
        for each in plugins
        if each.plugin.enforces and not each.plugin.sees_forwarded() and not each.shadow
    ]
    if blind and server.unguarded == "pass":
        lines.append(f'{", ".join(blind)} cannot see {UNGUARDED}: server.unguarded = "pass"')
    return lines


def _plugin_lines(plugins: tuple[Chosen, ...]) -> list[str]:
    rows = [(each.name, each.summary(), _behaviour(each)) for each in plugins]
    wide, wider = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [
        f"{number:3} {name:{wide}}  {f'{summary:{wider}}  ' if wider else ''}{behaviour}"
        for number, (name, summary, behaviour) in enumerate(rows, 1)
    ]


def _behaviour(chosen: Chosen) -> str:
    return "in shadow" if chosen.shadow else f"{chosen.table.on_error} on error"


def _traces(settings: Settings, environ: Mapping[str, str]) -> str:
    if not telemetry.exporting(settings.telemetry, environ):
        return "traces off"
    endpoint = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or settings.telemetry.endpoint
    )
    content = "on" if settings.telemetry.capture_content else "off"
    return f"traces to {_without_secrets(endpoint)}, content {content}"


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _without_secrets(url: object) -> str:
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

"""What the server says when it is up, in at most five lines and one for each plugin."""

from __future__ import annotations

import pytest

from proxy.config import Configuration
from proxy.plugin import Forwarded, Options, Plugin
from proxy.registry import Chosen, Table
from proxy.settings import Settings
from proxy.startup import startup_lines


class Guard(Plugin[Options]):
    enforces = True


class Limit(Guard):
    async def admit(self, forwarded: Forwarded) -> None:
        """It sees them."""


def configuration(*, guarded: bool = False, **sections: object) -> Configuration:
    upstream = {"base_url": "https://api.example/v1/"}
    settings = Settings.model_validate({"upstream": upstream, **sections})
    guards = tuple(
        Chosen(plugin, Options(), Table(use=plugin.__name__.lower()), ("plugins", 0))
        for plugin in (Limit, Guard)
    )
    return Configuration(settings, guards if guarded else (), None, ())


def lines(*, environ: dict[str, str] | None = None, **options: object) -> list[str]:
    return startup_lines(configuration(**options), environ=environ or {})  # type: ignore[arg-type]


def test_the_ports_it_got_are_named_where_any_was_asked_for() -> None:
    found = startup_lines(
        configuration(server={"port": 0, "host": "::"}), port=1234, admin_port=4321, environ={}
    )
    assert found[0].endswith("  http://[::]:1234/v1 -> https://api.example/v1")
    assert found[-1] == "admin http://127.0.0.1:4321/healthz /readyz /metrics"


@pytest.mark.parametrize(
    ("telemetry", "environ", "line"),
    [
        ({}, {}, "traces off"),
        ({"endpoint": "http://c:4318"}, {}, "traces to http://c:4318, content off"),
        ({"endpoint": "http://c:4318", "enabled": False}, {}, "traces off"),
        ({"endpoint": "http://c:4318"}, {"OTEL_SDK_DISABLED": "true"}, "traces off"),
        (
            {"endpoint": "http://c:4318"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:4318"},
            "traces to http://d:4318, content off",
        ),
        (
            {"capture_content": True},
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://user:pass@e:4318/v1/traces?key=x",
            },
            "traces to http://e:4318/v1/traces, content on",
        ),
    ],
)
def test_where_traces_go_is_said_without_secrets(
    telemetry: dict[str, object], environ: dict[str, str], line: str
) -> None:
    assert lines(environ=environ, telemetry=telemetry)[1] == line


def test_endpoints_that_go_round_a_guard_are_named_only_where_there_is_a_guard_to_go_round() -> (
    None
):
    assert lines(guarded=True)[-1].startswith("guard cannot see /responses ")
    assert not any("cannot see" in line for line in lines())
    refused = lines(guarded=True, server={"unguarded": "refuse"})
    assert not any("cannot see" in line for line in refused)
    assert len(lines(guarded=True)) <= 5 + 2

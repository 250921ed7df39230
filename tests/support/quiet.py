"""Nothing may go wrong behind the back of a test: used by the suites of faults and advisories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy import edge, layer, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_fails_unseen(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """An exception that nobody handled, in a task or in telemetry, fails the test."""
    for throttle in (layer._tracebacks, edge._warnings, telemetry._failures):
        throttle._said.clear()
    yield
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    unseen = [
        f"{record.name}: {record.getMessage()} {record.exc_text or record.exc_info or ''}"
        for record in records
        if record.name == "asyncio" or record.getMessage() == "telemetry failed"
    ]
    assert not [line for line in unseen if "Executing <" not in line]
    if "expects_internal_error" not in request.keywords:
        assert not [r.getMessage() for r in records if "internal_error" in r.getMessage()]

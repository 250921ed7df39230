"""The receiver keeps the spans that an OTLP exporter sends it."""

from __future__ import annotations

import gzip

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.demo import receiver as module
from proxy.demo.receiver import Receiver


def export(*spans):
    """An export of (name, span id, parent id, attributes), all of the same trace."""
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for name, span_id, parent_id, attributes in spans:
        span = scope.spans.add(
            name=name, trace_id=b"\1" * 16, span_id=span_id, parent_span_id=parent_id
        )
        span.start_time_unix_nano, span.end_time_unix_nano = 5, 9
        for key, value in attributes.items():
            pair = span.attributes.add(key=key)
            if isinstance(value, list):
                for item in value:
                    pair.value.array_value.values.add(string_value=item)
            elif isinstance(value, str):
                pair.value.string_value = value
            elif value is not None:
                pair.value.int_value = value
    return message.SerializeToString()


ROOT = ("POST", b"\2" * 8, b"", {"dragoman.plugins": ["shout:modify"]})
PLUGIN = ("plugin shout", b"\3" * 8, b"\2" * 8, {"dragoman.plugin.name": "shout"})


async def send(receiver, body, **headers):
    async with aiohttp.ClientSession() as http:
        url = f"{receiver.endpoint}/v1/traces"
        async with http.post(url, data=body, headers=headers) as response:
            assert response.status == 200


async def test_a_span_is_kept_with_its_place_its_times_and_its_attributes():
    attributes = {"a": "text", "b": 7, "c": ["x", "y"], "d": None}
    async with Receiver() as receiver:
        await send(receiver, export(("chat", b"\2" * 8, b"\1" * 8, attributes)))
    [span] = receiver.traces["01" * 16]
    assert (span.name, span.span_id, span.parent_id) == ("chat", "02" * 8, "01" * 8)
    assert (span.start, span.end) == (5, 9)
    assert span.attributes == attributes


async def test_a_compressed_export_is_taken():
    async with Receiver() as receiver:
        await send(receiver, gzip.compress(export(ROOT)), **{"Content-Encoding": "gzip"})
    assert [span.name for span in receiver.traces["01" * 16]] == ["POST"]


async def test_a_trace_is_there_when_the_spans_of_its_plugins_are():
    async with Receiver() as receiver:
        await send(receiver, export(PLUGIN))
        await send(receiver, export(ROOT))
        assert len(await receiver.trace("01" * 16)) == 2


async def test_a_trace_that_never_comes_is_a_timeout(monkeypatch):
    monkeypatch.setattr(module, "WAITED", 0.05)
    async with Receiver() as receiver:
        await send(receiver, export(ROOT))
        with pytest.raises(TimeoutError):
            await receiver.trace("01" * 16)

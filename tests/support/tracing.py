"""What tests of traces ask of a proxy, and how they read what a collector received."""

from __future__ import annotations

MESSAGES = [{"role": "user", "content": "PROMPT-CANARY"}]
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def traced(collector, more=""):
    return f'telemetry.endpoint = "{collector.url}"\n{more}'


def by_kind(spans):
    """The server span, the chat span, the attempts, the plugins' spans."""
    server = [s for s in spans if s.kind == "SERVER"]
    chats = [s for s in spans if s.name.startswith("chat")]
    attempts = [s for s in spans if s.kind == "CLIENT" and s not in chats]
    plugins = [s for s in spans if s.name.startswith("plugin ")]
    assert len(server) == 1
    return server[0], chats[0] if chats else None, attempts, plugins


async def complete(running, **options):
    async with running.client() as client:
        return await client.chat.completions.create(
            **{"model": "gpt-4o-mini", "messages": MESSAGES, **options}
        )


async def streamed(running, **options):
    async with running.client() as client:
        stream = await client.chat.completions.create(
            **{"model": "gpt-4o-mini", "messages": MESSAGES, "stream": True, **options}
        )
        return [chunk async for chunk in stream]

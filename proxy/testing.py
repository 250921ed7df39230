"""A harness for the authors of plugins: a real proxy on real sockets, in three lines.

    from proxy.testing import plugin_test

    async def test_it_shouts_and_asks_politely():
        async with plugin_test(Shout, reply="hello") as test:
            assert await test.ask("Say hello") == "HELLO"
            assert test.sent[-1]["messages"][-1]["content"] == "Say hello, please"
            assert await test.outcomes() == {"Shout": "modify"}

Behind the proxy is the upstream of `dragoman demo`.  It replies as the test says, or else it tells
what it was sent; its errors, delays and broken connections are there for `extra_body={"demo": ...}`
(see `proxy.demo.upstream`).  Any test runner will do that runs coroutines on asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from . import config, registry
from .config import Configuration
from .demo import Upstream, UpstreamError, model
from .demo.running import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from openai import AsyncOpenAI

    from .demo.running import RunningProxy
    from .plugin import Plugin
    from .telemetry.turns import Turn

__all__ = ["PluginTest", "Reply", "UpstreamError", "plugin_test"]

Message: TypeAlias = dict[str, Any]
Reply: TypeAlias = str | Message | UpstreamError | Callable[[Mapping[str, Any]], str | Message]
"""What the upstream replies: a text, a message (with `tool_calls`, perhaps), an error, or what a
function makes of the body that it was sent; the function may raise an UpstreamError."""


class PluginTest:
    """A proxy under test, between its client and its upstream."""

    proxy: RunningProxy

    def __init__(self, reply: Reply | None) -> None:
        self.reply = reply
        """What the upstream replies from now on; None: what the demo model says."""
        self.sent: list[dict[str, Any]] = []
        """The bodies of chat completions that have reached the upstream, the newest last."""

    @property
    def client(self) -> AsyncOpenAI:
        """The real client, to ask for more than `ask` does.  It does not retry."""
        return self.proxy.client

    @property
    def base_url(self) -> str:
        """Where the proxy is, for other clients."""
        return self.proxy.base_url

    async def ask(self, prompt: str | Sequence[Message], **fields: Any) -> str:
        """Ask for a chat completion, streamed with `stream=True`, and return its text.

        The prompt is a user's message, or all messages.  The client's own errors are raised.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        asked = {"model": "gpt-4o-mini", "messages": messages, **fields}
        answer: Any = await self.client.chat.completions.create(**asked)
        if not asked.get("stream"):
            return answer.choices[0].message.content or ""
        return "".join([_delta(chunk) async for chunk in answer])

    async def outcomes(self) -> dict[str, str]:
        """What the plugins did with the newest chat completion, by their names.

        `pass`, `modify`, `respond`, `reject` or `error`; of a plugin that acted on the request or
        on the answer only, what it did there.  One whose `match` did not fit is missing.
        """
        outcomes: dict[str, str] = {}
        for plugin in (await self.turn()).plugins:
            if outcomes.get(plugin.name, "pass") == "pass":
                outcomes[plugin.name] = plugin.outcome
        return outcomes

    async def turn(self) -> Turn:
        """The turn log's line of the newest chat completion: tokens, times, who answered."""
        return await self.proxy.turn()


@asynccontextmanager
async def plugin_test(
    plugin: type[Plugin[Any]] | str,
    options: str = "",
    *,
    reply: Reply | None = None,
    folder: Path | None = None,
) -> AsyncIterator[PluginTest]:
    """Run a proxy with a plugin.  ConfigError if the operator of a real one would get it.

    The plugin is a class, with the options of its `[[plugins]]` table as they stand in a file,
    `plugin_test(Shout, 'volume = 11')`; or a text that is the whole configuration but for the
    upstream, in which paths start from `folder`.
    """
    test = PluginTest(reply)
    if isinstance(plugin, str):
        toml, at_hand = plugin, {}
    else:
        toml = f'[[plugins]]\nuse = "{plugin.__name__}"\n{options}\n'
        at_hand = {plugin.__name__: plugin}

    def speak(body: Mapping[str, Any], choice: int) -> Message:
        return model.speak(body, choice) if test.reply is None else _message(test.reply, body)

    async with Upstream(speak, received=test.sent) as upstream:
        configuration = await asyncio.to_thread(
            _configuration, toml, upstream.base_url, folder or Path(), at_hand
        )
        async with running(configuration) as test.proxy:
            yield test


def _configuration(
    toml: str, upstream: str, folder: Path, at_hand: Mapping[str, type[Plugin[Any]]]
) -> Configuration:
    """The configuration that an operator would write, whatever the environment says."""
    flags = {"--upstream": upstream, "--host": "127.0.0.1", "--port": "0", "--admin-port": "0"}
    with TemporaryDirectory() as elsewhere:
        file = Path(elsewhere, "dragoman.toml")
        file.write_text(toml)
        draft = config.read(file, flags, {"DRAGOMAN_TELEMETRY__ENABLED": "false"})
    draft = replace(draft, path=folder / file.name, at_hand=at_hand)
    chosen = registry.choose(draft)
    draft.mistakes.check()
    return Configuration(draft.settings, chosen, draft.path, ())


def _message(reply: Reply, body: Mapping[str, Any]) -> Message:
    if isinstance(reply, UpstreamError):
        raise reply
    said = reply if isinstance(reply, (str, dict)) else reply(body)
    return {"role": "assistant", **({"content": said} if isinstance(said, str) else said)}


def _delta(chunk: Any) -> str:
    """The text that a chunk adds to the first choice."""
    return "".join(c.delta.content or "" for c in chunk.choices if c.index == 0)

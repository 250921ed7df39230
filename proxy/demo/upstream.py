"""An OpenAI-compatible server without a model behind it: for a demo, for tests, for a first try.

    POST /v1/chat/completions   whole or streamed; tools, n, stop, logprobs, response_format
    POST /v1/embeddings         floats or base64
    POST /v1/moderations
    GET  /v1/models             and /v1/models/{id}

Any model's name and any key will do, and every answer says that it is the demo's.  What a good
upstream seldom does is done on demand, by a field `demo` in the body of a request:

    "demo": {"error": 429, "retry_after": 2}                  an error; `message` and `code`, too
    "demo": {"error": 500, "error_after": 3}                  ... in a stream, after three chunks
    "demo": {"break_after": 3}                                the connection breaks
    "demo": {"first_byte_delay": "2 s", "delay": "50 ms"}     before the answer, before each chunk
    "demo": {"usage": false}                                  an answer that tells no tokens
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.tokens import Tokenizer

from . import model
from .bodies import Chat, Embeddings, Moderations, checked, decode
from .completion import complete
from .delivery import add_headers, grant, in_openai_shape, send, send_stream, whole
from .embeddings import embed
from .errors import UpstreamError
from .moderations import moderate

if TYPE_CHECKING:
    from typing import Self

    from .completion import Speak

MODELS = ("dragoman-demo", "dragoman-demo-embedding", "dragoman-demo-moderation")
MAX_BODY = 64 << 20


@functools.cache
def tokenizer() -> Tokenizer:
    """One for all that run in this process: a vocabulary takes half a second and 30 MB."""
    return Tokenizer(encodings={"dragoman-demo*": "gpt-4o"})


class Upstream:
    """The server, from `async with` to its end.

    `speak` makes the message of one choice from the body of a request and the choice's number; an
    UpstreamError that it raises is the answer.  The bodies of chat completions are added to
    `received`.
    """

    def __init__(
        self,
        speak: Speak = model.speak,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        received: list[dict[str, Any]] | None = None,
    ) -> None:
        self._speak = speak
        self._address = (host, port)
        self._received = received
        self._tokens = tokenizer()
        application = web.Application(middlewares=[in_openai_shape], client_max_size=MAX_BODY)
        application.on_response_prepare.append(add_headers)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/embeddings", self._embeddings)
        application.router.add_post("/v1/moderations", self._moderations)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/v1/models/{id:.+}", self._model)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> Self:
        await self._tokens.load("gpt-4o")  # not while the first client waits
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """What a client would use as `base_url` without the proxy."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    # ---- endpoints

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        data = await http.read()
        body = decode(data)
        if self._received is not None:
            self._received.append(body)
        request = checked(Chat, body)
        await grant(request.demo, streamed=bool(request.stream))
        completion = await complete(request, data, body, self._speak, self._tokens)
        if request.stream:
            return await send_stream(http, completion, request.demo)
        return await send(http, completion.body(), request.demo)

    async def _embeddings(self, http: web.Request) -> web.StreamResponse:
        request = checked(Embeddings, decode(await http.read()))
        await grant(request.demo)
        return await send(http, await embed(request, self._tokens), request.demo)

    async def _moderations(self, http: web.Request) -> web.StreamResponse:
        data = await http.read()
        request = checked(Moderations, decode(data))
        await grant(request.demo)
        return await send(http, moderate(request, data), request.demo)

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return whole({"object": "list", "data": [_described(name) for name in MODELS]})

    async def _model(self, http: web.Request) -> web.StreamResponse:
        name = http.match_info["id"]
        if name not in MODELS:
            message = f"The model '{name}' does not exist"
            raise UpstreamError(404, message, param="model")
        return whole(_described(name))


def _described(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "dragoman"}

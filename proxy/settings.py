"""Every setting, its default and its meaning; the schema and the example follow from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    UrlConstraints,
)

from .quantities import Moment, Seconds, Size
from .store.address import Address


class Section(BaseModel):
    """A table of the configuration.  Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Url = Annotated[AnyHttpUrl, UrlConstraints(allowed_schemes=["http", "https"])]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Globs = tuple[Annotated[str, Field(min_length=1)], ...]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _prefix(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username or url.password:
        raise ValueError("should hold no password, as upstream.api_key may")
    if url.query is not None or url.fragment is not None:
        raise ValueError("should end with its path, without query or fragment")
    return url


def _sendable(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    if isinstance(value, str) and not all("!" <= character <= "~" for character in value):
        raise ValueError("holds a space, a line break or another character that no key has")
    return value


def _of_a_store(url: SecretStr) -> SecretStr:
    Address.parse(url.get_secret_value())
    return url


BaseUrl = Annotated[Url, AfterValidator(_prefix)]
Host = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, BeforeValidator(_sendable)]
StoreUrl = Annotated[
    SecretStr, AfterValidator(_of_a_store), Field(json_schema_extra={"default": "memory://"})
]


class Pace(Section):
    """What the upstream's limit for an account is: requests beyond it wait for their turn."""

    requests: Annotated[int, Field(ge=1)] | None = None
    """Requests in each period.  Absent: nothing waits."""

    period: Annotated[Seconds, Field(gt=0)] = 60

    burst: Seconds = 1
    """How many may go at once, as the time in which they accrue; one may in any case."""

    max_wait: Annotated[Seconds, Field(gt=0)] = 30
    """How long a request waits at most; one whose turn would come later gets a 429."""

    processes: Annotated[int, Field(ge=1)] = 1
    """While the shared store is gone, each process goes at the pace divided by this number."""


class Upstream(Section):
    """Where chat completions and everything else go."""

    base_url: BaseUrl
    """The API, with its path: what a client would use as `base_url` without the proxy."""

    api_key: Secret | None = None
    """The upstream's key, best as "env:NAME".  Absent: each client's own key is passed on."""

    api_key_header: Literal["authorization", "api-key"] = "authorization"
    """How the upstream takes `api_key`: `Authorization: Bearer`, or Azure's `api-key`."""

    provider: str = "openai"
    """The upstream's name in telemetry, `gen_ai.provider.name`, and in the price table."""

    connect_timeout: Seconds = 5
    """How long a connection may take."""

    first_byte_timeout: Seconds = 600
    """Silence before the answer begins; reasoning models think for minutes."""

    idle_timeout: Seconds = 300
    """Silence inside an answer.  There is no limit on its length."""

    retries: Annotated[int, Field(ge=0, le=10)] = 0
    """How often a 429, 500, 502, 503 or 504 is tried again, after its `Retry-After`.  Clients
    retry by themselves; connection errors are tried once more in any case."""

    pace: Pace = Pace()
    """How many requests the upstream takes of an account."""

    stream_usage: Literal["ask", "count"] = "ask"
    """How the usage of a stream is known: `ask` the upstream for it, and take the extra chunk out
    again if the client did not ask; or change nothing and `count` the text."""

    proxy: Url | None = None
    """An HTTP proxy on the way to the upstream."""


class Server(Section):
    """The two listeners, and what they accept."""

    host: Host = "127.0.0.1"
    """The address clients reach.  127.0.0.1: this machine only; 0.0.0.0: every network it is in."""

    port: Port = 8080
    """0 takes any free one."""

    admin_host: Host = "127.0.0.1"
    """Where /healthz, /readyz and /metrics are.  They reveal models and volumes: keep it inside."""

    admin_port: Port = 8081
    """0 takes any free one."""

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """How many processes share the port; more than one need a store that they share, too.  The
    limits here are those of each."""

    watch_config: bool = False
    """Read the configuration again whenever its file changes, or one that a plugin has read.
    SIGHUP asks for it once."""

    allow_anonymous: bool = False
    """Serve clients without a key of ours although `upstream.api_key` is set and `host` is no
    loopback address.  Whoever reaches the port then spends the upstream's money."""

    unguarded: Literal["pass", "refuse"] = "pass"
    """What happens to other endpoints that carry messages (/responses, /completions, /realtime,
    batches ...), which the plugins do not see: `pass` them on, or `refuse` them with a 403."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged on stderr."""

    max_body: Size = 20_000_000
    """The longest body of a chat completion.  Other endpoints stream theirs, however long."""

    max_body_in_flight: Size = 256_000_000
    """Chat completion bodies held in memory at once; beyond it clients get 503 `overloaded`."""

    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Client connections at once; one more is closed."""

    max_header: Size = 65_536
    """The longest header line, and request line."""

    body_timeout: Seconds = 30
    """How long a client may keep us waiting for its body, plus a second for each 8 kB of it."""

    write_timeout: Seconds = 60
    """How long a client may leave our bytes unread."""

    idle_timeout: Seconds = 75
    """How long an idle connection is kept, and how long a request's headers may take."""

    grace: Seconds = 0
    """After SIGTERM: how long to accept requests while /readyz already says 503, for load
    balancers that look before they stop sending."""

    drain: Seconds = 25
    """After that: how long running answers may take to finish."""

    heartbeat: Seconds = 0
    """Silence in a stream after which clients get a comment, `: ping`; 0 sends none."""


class Key(Section):
    """A client's key, where the upstream's own is ours: `dragoman keys new` makes one."""

    name: Name
    """Who it belongs to: on traces, and in `match.callers`."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key, as hex digits.  The key itself is nowhere."""

    groups: tuple[Name, ...] = ()
    """What patterns such as "group:free" find it by, wherever callers are named."""

    models: Globs = ()
    """Patterns of the models that it may ask, such as "gpt-4o*"; empty: all."""

    expires: Moment | None = None
    """Until when it is good: a time, or a day, whose end it is."""


class TailSample(Section):
    """Which traces are worth keeping, decided when they have ended."""

    errors: bool = True
    """Keep every trace that failed."""

    slow: Seconds = 0
    """Keep every trace that took longer; 0 keeps none for that."""

    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share to keep of all others."""


class Telemetry(Section):
    """Traces, the turn log, metrics.  The standard OTEL_* variables stand above these."""

    enabled: bool = True
    """False: no traces, whatever endpoint is named.  Log and metrics stay."""

    endpoint: Url | None = None
    """An OTLP collector.  Absent, and without OTEL_EXPORTER_OTLP_ENDPOINT: no traces, no cost."""

    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    """gRPC wants the extra: pip install 'dragoman[grpc]'."""

    service_name: str = "dragoman"
    """What the proxy is called in traces."""

    turn_log: bool = True
    """One JSON line on stdout for each chat completion: tokens, times, plugins; no content."""

    semconv: Literal["1.41", "next"] = "1.41"
    """The version of OpenTelemetry's conventions for generative AI that attributes follow."""

    plugin_spans: Literal["acted", "all", "none"] = "acted"
    """Which plugins get a span: those that changed, answered, refused, failed or took over 1 ms."""

    capture_content: bool = False
    """True puts prompts and answers into traces."""

    content_max_chars: Annotated[int, Field(ge=0)] = 8_192
    """The longest text that is captured of one message."""

    incoming_trace: Literal["continue", "link", "ignore"] = "continue"
    """What a client's `traceparent` is: the parent of our trace, a link, or nothing.  `link` is for
    clients that are not trusted."""

    propagate_upstream: bool = True
    """Send a `traceparent` upstream."""

    estimate_usage: bool = True
    """Count tokens where the upstream does not say, and mark them as estimated."""

    genai_usage: Literal["always", "root_only"] = "always"
    """`root_only`: where the client is traced too, tokens are written as `dragoman.usage.*`, so
    that a backend does not add them up twice."""

    tail_sample: TailSample = TailSample()

    flush_deadline: Seconds = 3
    """After the last request: how long spans may take to reach the collector."""


class Tokens(Section):
    """How tokens are counted."""

    encodings: dict[str, Literal["o200k_base", "cl100k_base"]] = {}
    """The vocabulary of models whose name does not tell: { "my-gpt4" = "cl100k_base" }."""

    preload: bool = False
    """Load the vocabularies at start (65 MB, under a second), not when they are first needed."""

    verify: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of requests whose prompt is counted although nobody needs it, to compare with the
    upstream's own count: it calibrates unknown models and shows when a known one has changed."""


class Store(Section):
    """Where plugins keep what outlives a request: limits, caches, summaries."""

    url: StoreUrl = SecretStr("memory://")
    """"memory://", for one process; or a Redis (6.2 or later) or Valkey that all processes share:
    redis://, rediss://, unix://, redis+sentinel:// with the name of the service, redis+cluster://.
    With a password it is best as "env:NAME"."""

    keys: bool = False
    """Clients' keys are here, too, beside [[keys]]: `dragoman keys` makes and revokes them, and all
    processes follow within seconds."""

    timeout: Annotated[Seconds, Field(gt=0)] = 0.1
    """How long a request waits for Redis, connecting included.  Plugins go on without it."""

    max_memory: Size = 64_000_000
    """What memory:// takes; beyond it, what has been unused for longest is forgotten."""

    secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    """What the names of callers and of stored things are hashed with, best as "env:NAME".  Absent:
    made anew at each start, so that no other process finds what this one has stored."""


class Settings(Section):
    """The whole configuration, but for the options of plugins."""

    upstream: Upstream
    server: Server = Server()
    telemetry: Telemetry = Telemetry()
    tokens: Tokens = Tokens()
    store: Store = Store()
    keys: tuple[Key, ...] = ()
    plugins: tuple[dict[str, Any], ...] = ()

    @property
    def has_keys(self) -> bool:
        """Whether clients must bring a key of ours."""
        return bool(self.keys) or self.store.keys

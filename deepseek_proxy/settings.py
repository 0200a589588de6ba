"""Every setting once: name, environment variable, type, default, help.

The environment variable of `heartbeat_seconds` is `DEEPSEEK_PROXY_HEARTBEAT_SECONDS`; the same name in
lower case is its key in the configuration file (`--config FILE`, TOML or JSON). The environment wins
over the file. Secrets are `SecretStr`, so that printing the settings never shows them. Nothing here is
read at import time. `docs/configuration.md` is made of what stands here (`make docs`).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import platformdirs
from pydantic import (
    AliasChoices,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as SourceError

from deepseek_proxy import consistency, models
from deepseek_proxy.credentials import (
    Account,
    Accounts,
    BaseUrl,
    ClientKey,
    ClientKeys,
    HeaderKey,
    ProxyUrl,
    StrongKey,
)
from deepseek_proxy.keyfile import KeysFile
from deepseek_proxy.sources import Location, complaints, credentials, place_of, read_file
from deepseek_proxy.sources import SettingsError as SettingsError
from deepseek_proxy.values import Bytes, FilePath, Host, Origins, Seconds, StoreUrl, TextFile, listed, text_in

ENV_PREFIX = "DEEPSEEK_PROXY_"
CONFIG_VARIABLE = "DEEPSEEK_PROXY_CONFIG"

_CREDENTIALS = (
    "keys",
    "accounts",
    "proxy_pool",
    "deepseek_api_key",
    "upstream_proxy",
    "store_url",
    "seal_keys",
    "admin_key",
)
"""Settings that may also come as a credential of systemd's, of the same name."""

_TRACING_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")

# Set where Vercel runs the application: it listens there, for everybody, and `host` says nothing.
_VERCEL_VARIABLES = ("VERCEL", "VERCEL_IPC_PATH")

_KEY_NAMES = (f"{ENV_PREFIX}DEEPSEEK_API_KEY", "DEEPSEEK_API_KEY", "deepseek_api_key")

_PARTS: Mapping[str, type[BaseModel]] = {"keys": ClientKey, "accounts": Account}
"""Settings that are lists of tables, and what one table is."""


def _state_dir() -> Path:
    # systemd's StateDirectory= wins over the user's own folder.
    return Path(os.environ.get("STATE_DIRECTORY") or platformdirs.user_state_path("deepseek-proxy"))


class Settings(BaseSettings):
    """The effective settings, immutable. Unknown keys of a file are errors, with their path."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    # -- listening
    host: Host = Field("127.0.0.1", description="Address to listen on. Loopback by default.")
    port: int = Field(8787, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=256, description="Number of gunicorn worker processes.")
    allow_remote: bool = Field(
        False,
        description="Serve on an address that is not loopback although the gateway's own key pays for all.",
    )
    drain_seconds: int = Field(
        30, ge=0, le=3600, description="How long running answers may go on after the order to stop."
    )

    # -- clients
    keys: Annotated[ClientKeys, NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="The clients that may use the gateway: a list of keys, or of tables with a key and its "
        "limits ([keys](keys.md)). With any, everybody else is refused.",
    )
    keys_file: KeysFile | None = Field(
        None,
        description="File of further keys, written by `deepseek-proxy keys` and read again when it changes. "
        "With one named, everybody else is refused, also while it is empty.",
    )
    passthrough: bool = Field(
        False,
        description="With `keys`: let callers with a DeepSeek key of their own (`sk-…`) through, who pay for "
        "themselves.",
    )

    cors_origins: Origins = Field(
        (),
        description="Origins (`https://app.example`) whose pages may use the gateway from a browser; `*` for "
        "all. None by default.",
    )

    # -- the upstream
    upstream_url: BaseUrl = Field(
        AnyHttpUrl("https://api.deepseek.com"),
        description="Base URL of the DeepSeek API; `/chat/completions` is added to it.",
    )
    deepseek_api_key: HeaderKey | None = Field(
        None,
        validation_alias=AliasChoices(*_KEY_NAMES),
        description="DeepSeek key used for requests that bring none of their own.",
    )
    deepseek_api_key_file: TextFile | None = Field(
        None,
        description="File that holds the DeepSeek key; read at start, where `deepseek_api_key` is not set.",
    )
    upstream_proxy: ProxyUrl | None = Field(
        None,
        description="Proxy for upstream connections: `http`, `https`, `socks4`, `socks5` or `socks5h` "
        "(`socks5h://user:password@host:port`). None by default.",
    )
    proxy_pool_enabled: bool = Field(
        False, description="Take the proxies of `proxy_pool` in turns, in place of `upstream_proxy`."
    )
    proxy_pool: Annotated[tuple[ProxyUrl, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        max_length=100,
        description="Proxies as in `upstream_proxy`, up to 100; the least used comes next. `direct` is none.",
    )
    proxy_pool_shared: bool = Field(
        False,
        description="Count the uses and the failures of proxies over all workers and machines, not in each "
        "worker by itself.",
    )
    upstream_ca_file: TextFile | None = Field(
        None, description="CA bundle to trust in place of the built-in one."
    )
    connect_timeout_seconds: Seconds = Field(10, description="How long one connection attempt may take.")
    upstream_idle_seconds: Seconds = Field(
        300, description="Longest time without a single byte from the upstream, comments included."
    )
    data_idle_seconds: Seconds = Field(
        660,
        description="Longest time with only comments from the upstream (DeepSeek queues up to 10 minutes).",
    )
    after_finish_seconds: Seconds = Field(
        10, description="How long to wait for the end of a stream after its finish reason."
    )
    total_seconds: Seconds = Field(3600, description="Longest time one answer may take in all.")
    upstream_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Attempts for one request, the first included; only before the first byte.",
    )
    retry_max_seconds: Seconds = Field(
        20, description="Longest pause before another attempt, also when the upstream asks for more."
    )
    upstream_connections: int = Field(
        4096, ge=1, description="Idle upstream connections that one worker keeps for reuse."
    )

    # -- accounts
    accounts: Annotated[Accounts, NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Several accounts to share the work among: a list of keys, or of tables with a key and "
        "what is special about it. In place of `deepseek_api_key`.",
    )
    account_queue: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="Most requests that wait for an account, first come, first served; the next gets 429.",
    )
    account_queue_seconds: Seconds = Field(
        60, description="How long a request waits for an account before it gets 429."
    )

    # -- models
    default_model: str = Field(
        models.FLASH.id, description="Model that unknown names (`gpt-*`, `codex-auto-review`, …) stand for."
    )
    unknown_models: Literal["map", "reject"] = Field(
        "map",
        description="`map` sends unknown names to `default_model`; `reject` answers 404 `model_not_found`.",
    )
    model_aliases: dict[str, str] = Field(
        default_factory=dict, description="Further model names: a map from a client's name to a known one."
    )
    tool_name_limit: int = Field(
        64, ge=16, le=128, description="Longest tool name sent upstream; longer ones get a reversible alias."
    )

    # -- translation
    reasoning_output: Literal["summary", "text", "openresponses", "hidden"] = Field(
        "summary",
        description="How the model's thinking is shown on Responses streams: as summary parts, as "
        "`reasoning_text`, under Open Responses' event names, or not at all. It is carried in "
        "`encrypted_content` in every case.",
    )
    leaked_tool_markup: Literal["recover", "remove", "pass"] = Field(
        "recover",
        description="What to do with tool markup that the upstream leaves in the text: make the tool call of "
        "it, remove it, or pass it on as it is.",
    )
    schema_repair_attempts: int = Field(
        1,
        ge=0,
        le=3,
        description="Further attempts when a JSON answer does not fit its schema (not when streaming).",
    )
    reasoning_cache_bytes: int = Field(
        32 * 1024 * 1024,
        ge=0,
        description="Memory for thinking that a client failed to send back. Several workers share theirs "
        "through the store, and have none without one.",
    )

    # -- web search
    web_search: Literal["off", "deepseek"] = Field(
        "off",
        description="Who runs the hosted `web_search` tool: nobody, or the gateway with DeepSeek's search, "
        "which DeepSeek bills for.",
    )
    web_search_rounds: int = Field(
        8, ge=1, le=64, description="How often the model may search and go on within one answer."
    )
    web_search_calls: int = Field(
        16,
        ge=1,
        le=256,
        description="Searches and pages in one answer; a request's `max_tool_calls` may lower it.",
    )
    web_search_seconds: Seconds = Field(
        300, description="No search is started when an answer has taken this long."
    )
    web_search_call_seconds: Seconds = Field(
        120, description="How long one search or one page may take; without it, the model goes on."
    )

    # -- streams
    heartbeat_seconds: Seconds = Field(
        15, description="A comment goes to the client after this much silence."
    )
    client_stall_seconds: Seconds = Field(
        120, description="A client that neither sends nor takes anything for this long is let go."
    )
    progress_seconds: Seconds = Field(
        60, description="A repeated `response.in_progress` goes out after this long without a data event."
    )

    # -- websockets
    websocket: Literal["on", "off"] = Field("on", description="Serve WebSockets, or have clients use POST.")
    websocket_seconds: Seconds = Field(3600, description="How long a WebSocket may stay open in all.")
    websocket_idle_seconds: Seconds = Field(900, description="How long one may stay open without a request.")
    websocket_memory_bytes: int = Field(
        16 << 20, ge=0, description="Memory of one for turns with `store: false`, to go on from."
    )

    # -- limits
    max_body_bytes: Bytes = Field(48 * 1024 * 1024, description="Largest request body, after decompression.")
    max_nesting: int = Field(
        100, ge=8, le=110, description="Deepest nesting of arrays and objects in a body."
    )
    max_event_bytes: Bytes = Field(
        16 * 1024 * 1024, description="Largest single event accepted from the upstream."
    )
    max_answer_bytes: Bytes = Field(
        64 * 1024 * 1024, description="Largest whole answer accepted from the upstream."
    )

    # -- what is kept between requests
    store_url: StoreUrl | None = Field(
        None,
        description="Where responses and conversations are kept: `sqlite:` (a file in `state_dir`), "
        "`sqlite:/path/of/a/file`, a Redis that several machines share (`redis://…`, `rediss://…`, "
        "`unix://…`), `memory:` (for one worker, gone at a restart), or `off`. By default `sqlite:`, and "
        "`off` on Vercel and where `state_dir` cannot be written to.",
    )
    store_ttl_days: float = Field(
        30,
        gt=0,
        le=3650,
        description="How long a response is kept, and a conversation to which nothing is added.",
    )
    store_max_bytes: Bytes = Field(
        2 * 1024**3,
        description="Most bytes kept in all. From nine tenths of it on, the oldest responses make room.",
    )
    store_owner_max_bytes: Bytes = Field(
        1024**3, description="Most bytes kept for one client key; the same goes for its own oldest responses."
    )
    store_when_down: Literal["refuse", "continue"] = Field(
        "refuse",
        description="When the store fails: `refuse` answers 503 to what should be stored; `continue` answers "
        "without storing, and says so. `store: false` works in either case.",
    )

    # -- state and secrets
    state_dir: FilePath = Field(
        default_factory=_state_dir,
        description="Folder for the sealing key. By default systemd's `StateDirectory=`, else the user's own "
        "(`~/.local/state/deepseek-proxy` on Linux).",
    )
    seal_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Keys (32 bytes, base64) that seal reasoning into `encrypted_content`; the first one "
        "seals, all open. Comma-separated in the environment. Without any, one is created in `state_dir`.",
    )
    admin_key: StrongKey | None = Field(
        None,
        description="Key, of 16 characters or more, with which `/metrics` is served to other machines too. "
        "None by default: to this machine only.",
    )
    admin_key_file: TextFile | None = Field(
        None, description="File that holds the admin key; read at start, where `admin_key` is not set."
    )

    # -- logs and traces
    log_dir: FilePath | None = Field(None, description="Folder of the rotating log files; none by default.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level logged."
    )
    log_max_bytes: Bytes = Field(50 * 1024 * 1024, description="Size at which a log file is rotated.")
    log_backups: int = Field(10, ge=0, le=1000, description="Rotated log files that are kept.")
    log_stderr: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Log to stderr too: `auto` when it is a terminal or a journal, or without a `log_dir`.",
    )
    log_bodies: bool = Field(
        False,
        description="Debugging only: log what is sent to DeepSeek and what is answered, prompts and answers "
        "that is, and the messages of all exceptions.",
    )
    traces: bool = Field(
        False,
        description="Send OpenTelemetry traces; where to is said by the standard `OTEL_*` variables. Needs "
        "`pip install 'deepseek-proxy[otel]'`.",
    )

    isolated: ClassVar[bool] = False
    file_values: ClassVar[Mapping[str, Any]] = {}

    @property
    def serverless(self) -> bool:
        """Whether this process comes and goes with requests, and what it writes goes with it."""
        return not self.isolated and any(os.environ.get(name) for name in _VERCEL_VARIABLES)

    @model_validator(mode="before")
    @classmethod
    def _keys_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        read = {}
        for name, given in (("deepseek_api_key", _KEY_NAMES), ("admin_key", ("admin_key",))):
            path = values.get(f"{name}_file")
            if path and not any(values.get(other) for other in given):
                text = text_in(path)
                if text is not None:
                    read[name] = text
        return {**values, **read}

    @model_validator(mode="before")
    @classmethod
    def _from_systemd(cls, values: dict[str, Any]) -> dict[str, Any]:
        if cls.isolated:
            return values
        given = {"deepseek_api_key" if name in _KEY_NAMES else name.removesuffix("_file") for name in values}
        return {**values, **credentials(name for name in _CREDENTIALS if name not in given)}

    @field_validator("traces")
    @classmethod
    def _can_be_made(cls, traces: bool) -> bool:
        if traces and not all(map(_is_installed, _TRACING_MODULES)):
            raise ValueError("OpenTelemetry is not installed; run: pip install 'deepseek-proxy[otel]'")
        return traces

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        wrong = [*consistency.unknown_models(self.default_model, self.model_aliases, self.keys)]
        wrong += consistency.memory_that_is_not_shared(self.store_url, self.workers)
        wrong += consistency.pool_of_nothing(self.proxy_pool_enabled, self.proxy_pool)
        if self.passthrough:
            wrong += consistency.keys_like_deepseeks(self.keys)
        if self.pays and not self.asks_for_keys:
            wrong += consistency.open_to_all_pages(self.cors_origins)
            if not self.allow_remote:
                variable = variables("allow_remote")[0]
                wrong += consistency.open_to_the_network(
                    self.host, serverless=self.serverless, variable=variable
                )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def pays(self) -> bool:
        """Whether requests that bring no DeepSeek key are paid for by the gateway."""
        return self.deepseek_api_key is not None or bool(self.accounts)

    @property
    def asks_for_keys(self) -> bool:
        """Whether only known clients are let in. An empty file of keys lets in nobody."""
        return bool(self.keys) or self.keys_file is not None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if cls.isolated:
            return (init_settings,)
        return (init_settings, env_settings, InitSettingsSource(settings_cls, dict(cls.file_values)))


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from `overrides` (command line), the environment, then `config` or $DEEPSEEK_PROXY_CONFIG.

    An override of None counts as not given. Raises `SettingsError` that names every wrong setting at
    once, never showing a secret.
    """
    if config is None and (named := os.environ.get(CONFIG_VARIABLE)):
        config = Path(named)
    values = read_file(config) if config is not None else {}
    return _build({k: v for k, v in overrides.items() if v is not None}, file_values=values)


def isolated(**values: Any) -> Settings:
    """The built-in defaults with `values`: neither the environment nor a file (demo, tests)."""
    return _build(values, isolated=True)


def variables(name: str) -> tuple[str, ...]:
    """The environment variables of a setting, the strongest first."""
    own = f"{ENV_PREFIX}{name.upper()}"
    return (own, "DEEPSEEK_API_KEY") if name == "deepseek_api_key" else (own,)


def _build(values: Mapping[str, Any], **sources: Any) -> Settings:
    # A class of its own per call: pydantic-settings takes the sources from the class.
    chosen = type("Settings", (Settings,), {**sources, "__doc__": Settings.__doc__})
    try:
        built: Settings = chosen(**values)
    except ValidationError as error:
        wrong = complaints(error, _known, lambda location: _shown(location, values))
        raise SettingsError("\n".join(wrong)) from None
    except SourceError as error:  # a list or a map in the environment that is not JSON
        raise SettingsError(f"{error}: not JSON") from None
    return built


def _known(location: Location) -> Iterable[str]:
    return _PARTS.get(str(location[0]), Settings).model_fields


def _shown(location: Location, values: Mapping[str, Any]) -> str:
    """The place of a mistake, and the variable that it came from."""
    path = place_of(location)
    path = "deepseek_api_key" if path in _KEY_NAMES else path
    name = "deepseek_api_key" if path == "deepseek_api_key" else str(location[0]) if location else ""
    chosen = () if name in values else variables(name)
    variable = next((name for name in chosen if os.environ.get(name)), None)
    return f"{path} ({variable})" if variable else path


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False

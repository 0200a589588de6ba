"""Every setting once: name, environment variable, type, default, help.

The environment variable of `heartbeat_seconds` is `DEEPSEEK_PROXY_HEARTBEAT_SECONDS`; the same name in
lower case is its key in the configuration file (`--config FILE`, TOML or JSON). The environment wins
over the file. Secrets are `SecretStr`, so that printing the settings never shows them. Nothing here is
read at import time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import platformdirs
from pydantic import AliasChoices, AnyHttpUrl, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from deepseek_proxy import models

ENV_PREFIX = "DEEPSEEK_PROXY_"
CONFIG_VARIABLE = "DEEPSEEK_PROXY_CONFIG"

Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]


class SettingsError(Exception):
    """One or more settings are wrong; the message lists them all, a line each."""


def _state_dir() -> Path:
    # systemd's StateDirectory= wins over the user's own folder.
    return Path(os.environ.get("STATE_DIRECTORY") or platformdirs.user_state_path("deepseek-proxy"))


class Settings(BaseSettings):
    """The effective settings, immutable. Unknown keys of a file are errors, with their path."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, env_ignore_empty=True
    )

    # -- listening
    host: str = Field("127.0.0.1", description="Address to listen on. Loopback by default.")
    port: int = Field(8787, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=256, description="Number of gunicorn worker processes.")
    allow_remote: bool = Field(
        False,
        description="Serve on an address that is not loopback although the gateway's own key would pay for everybody.",
    )

    # -- the upstream
    upstream_url: AnyHttpUrl = Field(
        AnyHttpUrl("https://api.deepseek.com"),
        description="Base URL of the DeepSeek API; `/chat/completions` is added to it.",
    )
    deepseek_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("deepseek_api_key", f"{ENV_PREFIX}DEEPSEEK_API_KEY", "DEEPSEEK_API_KEY"),
        description="DeepSeek key used for requests that bring none of their own.",
    )
    deepseek_api_key_file: Path | None = Field(
        None, description="File that holds the DeepSeek key, in place of `deepseek_api_key`."
    )
    upstream_proxy: SecretStr | None = Field(
        None, description="Proxy for upstream connections (`http://user:password@host:port`). None by default."
    )
    upstream_ca_file: Path | None = Field(None, description="CA bundle to trust in place of the built-in one.")
    connect_timeout_seconds: Seconds = Field(10, description="How long one connection attempt may take.")
    upstream_idle_seconds: Seconds = Field(
        300, description="Longest time without a single byte from the upstream, comments included."
    )
    data_idle_seconds: Seconds = Field(
        660, description="Longest time in which the upstream sends only comments (DeepSeek queues up to 10 minutes)."
    )
    after_finish_seconds: Seconds = Field(
        10, description="How long to wait for the end of a stream after its finish reason."
    )
    total_seconds: Seconds = Field(3600, description="Longest time one answer may take in all.")
    upstream_attempts: int = Field(
        3, ge=1, le=10, description="Attempts for one request, the first included; only before the first byte."
    )
    retry_max_seconds: Seconds = Field(
        20, description="Longest pause before another attempt, also when the upstream asks for more."
    )
    upstream_connections: int = Field(
        4096, ge=1, description="Idle upstream connections that one worker keeps for reuse."
    )

    # -- models
    default_model: str = Field(
        models.FLASH.id, description="Model that unknown names (`gpt-*`, `codex-auto-review`, …) stand for."
    )
    unknown_models: Literal["map", "reject"] = Field(
        "map", description="`map` sends unknown model names to `default_model`; `reject` answers 404 model_not_found."
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
        description="How the model's thinking is shown on Responses streams: as summary parts, as `reasoning_text`, "
        "under Open Responses' event names, or not at all. It is carried in `encrypted_content` in every case.",
    )
    leaked_tool_markup: Literal["recover", "remove", "pass"] = Field(
        "recover",
        description="What to do with tool markup that the upstream leaves in the text: make the tool call of it, "
        "remove it, or pass it on as it is.",
    )
    schema_repair_attempts: int = Field(
        1, ge=0, le=3, description="Further attempts when a JSON answer does not fit its schema (not when streaming)."
    )
    reasoning_cache_bytes: int = Field(
        32 * 1024 * 1024, ge=0, description="Memory of one worker for thinking that a client failed to send back."
    )

    # -- streams
    heartbeat_seconds: Seconds = Field(15, description="A comment goes to the client after this much silence.")
    progress_seconds: Seconds = Field(
        60, description="A repeated `response.in_progress` goes out after this long without a data event."
    )

    # -- limits
    max_body_bytes: Bytes = Field(48 * 1024 * 1024, description="Largest request body, after decompression.")
    max_nesting: int = Field(100, ge=8, le=200, description="Deepest nesting of arrays and objects in a body.")
    max_event_bytes: Bytes = Field(16 * 1024 * 1024, description="Largest single event accepted from the upstream.")
    max_answer_bytes: Bytes = Field(64 * 1024 * 1024, description="Largest whole answer accepted from the upstream.")

    # -- state and secrets
    state_dir: Path = Field(default_factory=_state_dir, description="Folder for the sealing key.")
    seal_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys (32 bytes, base64) that seal reasoning into `encrypted_content`; the first one seals, all "
        "open. Comma-separated in the environment. Without any, one is created in `state_dir`.",
    )

    # -- logs
    log_dir: Path | None = Field(None, description="Folder of the rotating log files; none by default.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_max_bytes: Bytes = Field(50 * 1024 * 1024, description="Size at which a log file is rotated.")
    log_backups: int = Field(10, ge=0, le=1000, description="Rotated log files that are kept.")
    log_stderr: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Log to stderr too: `auto` when it is a terminal or a journal, or when there is no `log_dir`.",
    )
    log_bodies: bool = Field(
        False, description="Debugging only: log request and response bodies, which hold prompts and answers."
    )

    config_file: ClassVar[Path | None] = None

    @field_validator("seal_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        path = cls.config_file
        if path is None:
            return sources
        reader = JsonConfigSettingsSource if path.suffix == ".json" else TomlConfigSettingsSource
        return (*sources, reader(settings_cls, path))


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from `overrides` (command line), the environment, then `config` or $DEEPSEEK_PROXY_CONFIG.

    Raises `SettingsError` that names every wrong setting at once, never showing a value.
    """
    if config is None and (named := os.environ.get(CONFIG_VARIABLE)):
        config = Path(named)
    if config is not None and not config.is_file():
        raise SettingsError(f"{config}: no such configuration file")
    # A class of its own per file: pydantic-settings reads the path from the class.
    chosen = type("Settings", (Settings,), {"config_file": config, "__doc__": Settings.__doc__})
    try:
        loaded: Settings = chosen(**{k: v for k, v in overrides.items() if v is not None})
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError("\n".join(lines)) from None
    except ValueError as error:  # the file is not TOML or JSON
        raise SettingsError(f"{config}: {error}") from None
    return loaded

"""What the requests of one process share, made once by `app.create_app`."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field

from flask import current_app

from deepseek_proxy import models
from deepseek_proxy.api.allowance import Limiter
from deepseek_proxy.api.background import Background
from deepseek_proxy.api.keyring import Keyring
from deepseek_proxy.credentials import ClientKey
from deepseek_proxy.ops.lifecycle import Drain
from deepseek_proxy.ops.metrics import Metrics
from deepseek_proxy.ops.tracing import Tracing
from deepseek_proxy.pipeline import Pace
from deepseek_proxy.sealing import Sealer
from deepseek_proxy.settings import Settings
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.store.reasoning import Reasoning
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate.search import Limits, Session
from deepseek_proxy.upstream.client import Client
from deepseek_proxy.upstream.search import Searcher

EXTENSION = "deepseek_proxy"
OWN_TENANT = "gateway"
"""Everybody who uses the gateway's own key: the gateway cannot tell them apart."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    `tenant` is the stable name under which things are kept apart. `key` is the caller's own DeepSeek key;
    None where the gateway's accounts are used. `client` is whose limits hold; None where there are none.
    """

    tenant: str
    key: str | None = field(default=None, repr=False)
    client: ClientKey | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    settings: Settings
    client: Client
    searcher: Searcher
    sealer: Sealer
    metrics: Metrics
    reasoning: Reasoning
    drain: Drain
    background: Background
    store: Store | None
    """None where nothing is kept: `store_url` is `off`, or there is no place for it."""
    keyring: Keyring
    books: Books
    limiter: Limiter
    tracing: Tracing | None = None

    @property
    def pace(self) -> Pace:
        return Pace(self.settings.heartbeat_seconds, self.settings.progress_seconds)

    def search_session(self) -> Session | None:
        """The web search of one request; None where the operator has it off."""
        settings = self.settings
        if settings.web_search == "off":
            return None
        limits = Limits(settings.web_search_rounds, settings.web_search_calls, settings.web_search_seconds)
        return Session(limits, time.monotonic)

    def resolve(self, name: str) -> models.Resolved | None:
        """The model behind a client's name; None where the operator wants unknown names refused."""
        settings = self.settings
        default = settings.default_model if settings.unknown_models == "map" else None
        return models.resolve(name, settings.model_aliases, default)


def current_gateway() -> Gateway:
    gateway: Gateway = current_app.extensions[EXTENSION]
    return gateway


def tenant_of(key: str) -> str:
    """A name for the holder of `key` from which the key cannot be found."""
    return hashlib.sha256(b"deepseek-proxy tenant\0" + key.encode()).hexdigest()[:32]


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"

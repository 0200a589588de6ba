"""What settings must say together. Each check yields what is wrong, a line each, with the setting's name.

Refuses to know where settings come from.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from pydantic import SecretStr

from deepseek_proxy import models
from deepseek_proxy.credentials import DEEPSEEK_KEY_PREFIX, ClientKey
from deepseek_proxy.values import ANY_ORIGIN, IN_MEMORY


def unknown_models(default: str, aliases: Mapping[str, str], keys: Sequence[ClientKey]) -> Iterator[str]:
    """Names of models that stand for none."""
    for name in (aliases.get(default, default), *aliases.values()):
        if models.resolve(name, {}, None) is None:
            known = ", ".join((*models.MODELS, *models.ALIASES))
            yield f"default_model, model_aliases: {name!r} is not a model; known: {known}"
            return
    for index, key in enumerate(keys):
        for name in key.models:
            if models.resolve(name, aliases, None) is None:
                yield f"keys[{index}].models: {name!r} is not a model"


def keys_like_deepseeks(keys: Sequence[ClientKey]) -> Iterator[str]:
    """Keys that must not be mistyped, where DeepSeek's own keys are passed on."""
    for index, key in enumerate(keys):
        if key.key is not None and key.key.get_secret_value().startswith(DEEPSEEK_KEY_PREFIX):
            yield (
                f"keys[{index}].key: with passthrough, a key like this that is mistyped would be sent to "
                f"DeepSeek; use one that does not begin with {DEEPSEEK_KEY_PREFIX}"
            )


def memory_that_is_not_shared(store_url: SecretStr | None, workers: int) -> Iterator[str]:
    """A store that each worker would have for itself."""
    if workers > 1 and store_url is not None and store_url.get_secret_value() == IN_MEMORY:
        yield f"store_url: {IN_MEMORY} is for one worker; several share sqlite: or a Redis server"


def pool_of_nothing(enabled: bool, pool: Sequence[object]) -> Iterator[str]:
    """Where requests that are meant to go through proxies would go without one."""
    if enabled and not pool:
        yield "proxy_pool: it is enabled, and empty; name its proxies, or turn proxy_pool_enabled off"


def open_to_all_pages(origins: Sequence[str]) -> Iterator[str]:
    """Where the gateway pays, and asks nobody for a key."""
    if ANY_ORIGIN in origins:
        yield (
            "cors_origins: every page in a browser near the gateway could spend the balance of the "
            "configured DeepSeek key; name the origins, or set keys for your clients"
        )


def open_to_the_network(host: str, *, serverless: bool, variable: str) -> Iterator[str]:
    """The same. `variable` says in the environment that it is meant."""
    meant = f"if that is meant, set allow_remote ({variable}=true)"
    if serverless:
        yield (
            "everybody who knows the address of this deployment could spend the balance of the "
            f"configured DeepSeek key; {meant}; if not, set keys for your clients, or remove the key so "
            "that every client brings its own"
        )
    elif not is_loopback(host):
        yield (
            f"host: everybody who reaches {host} could spend the balance of the configured DeepSeek "
            f"key; {meant}; if not, listen on 127.0.0.1, set keys for your clients, or remove the key so "
            "that every client brings its own"
        )


def is_loopback(host: str | None) -> bool:
    """Whether a host name, without its port, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False

"""`deepseek-proxy check`: looks at everything the gateway needs and says what to do about what is missing.

Changes nothing and never shows a secret. Uses the standard library for HTTP, with the proxy and the CA bundle
that the gateway itself would use. DeepSeek's `/models` and `/user/balance`: docs of Nov 2026.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import platform
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import certifi
import click
from packaging.requirements import Requirement

from deepseek_proxy import keyfile
from deepseek_proxy import settings as settings_module
from deepseek_proxy.cli.options import config_option, url_of
from deepseek_proxy.cli.serve import free_port
from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.sealing import KEY_FILE, load_or_create_keys
from deepseek_proxy.settings import ENV_PREFIX, Settings, SettingsError
from deepseek_proxy.store.opening import open_store
from deepseek_proxy.version import __version__

_COLOURS = {"ok": "green", "note": "yellow", "fail": "red"}
_PATIENCE_SECONDS = 10
_SHOWN_LIBRARIES = ("flask", "requests", "urllib3", "gunicorn", "gevent")
_KEYS_PAGE = "https://platform.deepseek.com/api_keys"


class Finding(NamedTuple):
    """One line of the report. `advice` says what to do; empty where all is well."""

    level: Literal["ok", "note", "fail"]
    subject: str
    detail: str
    advice: str = ""


@click.command("check", short_help="Find out what is missing, and what to do about it.")
@config_option
def command(config_file: Path | None) -> None:
    """Check versions, settings, key, upstream, port and folders. Exit code 1 if something fails."""
    failed = False
    for finding in examine(config_file):
        failed |= finding.level == "fail"
        level = click.style(f"{finding.level:4}", fg=_COLOURS[finding.level])
        click.echo(f"{level}  {finding.subject:8}  {finding.detail}")
        if finding.advice:
            click.echo(f"{'':16}{finding.advice}")
    sys.exit(1 if failed else 0)


def examine(config_file: Path | None) -> Iterator[Finding]:
    """Every finding, in the order in which a person would look."""
    yield from _versions()
    yield from _unknown_variables()
    try:
        settings = settings_module.load(config_file)
    except SettingsError as error:
        *others, last = str(error).splitlines()
        yield from (Finding("fail", "settings", line) for line in others)
        yield Finding("fail", "settings", last, "see docs/configuration.md; nothing further can be checked")
        return
    yield Finding("ok", "settings", f"{len(settings.model_fields_set)} set, the others have their defaults")
    yield _key(settings)
    if settings.asks_for_keys:
        yield _clients(settings)
    yield from _upstream(settings)
    yield _port(settings)
    yield _sealing(settings)
    yield from _store(settings)
    if settings.log_dir is not None:
        yield _folder("logs", settings.log_dir, "log_dir")


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "version", f"deepseek-proxy {__version__}, Python {platform.python_version()}")
    shown = []
    for line in importlib.metadata.requires("deepseek-proxy") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("fail", "version", f"{wanted.name} is not installed", f"pip install '{wanted}'")
            continue
        if wanted.name in _SHOWN_LIBRARIES:
            shown.append(f"{wanted.name} {version}")
        if not wanted.specifier.contains(version, prereleases=True):
            detail = f"{wanted.name} {version} does not fit {wanted.specifier}"
            yield Finding("fail", "version", detail, f"pip install '{wanted}'")
    yield Finding("ok", "version", ", ".join(shown))


def _unknown_variables() -> Iterator[Finding]:
    known = {variable for name in Settings.model_fields for variable in settings_module.variables(name)}
    for variable in sorted(set(os.environ) - known - {settings_module.CONFIG_VARIABLE}):
        if variable.startswith(ENV_PREFIX):
            yield Finding(
                "note", "settings", f"{variable} is no setting", "see docs/configuration.md for the names"
            )


def _clients(settings: Settings) -> Finding:
    known = len(settings.keys) + (len(keyfile.read(settings.keys_file)) if settings.keys_file else 0)
    if known == 0:
        return Finding("note", "clients", "nobody has a key", "deepseek-proxy keys new NAME makes one")
    return Finding("ok", "clients", f"{known} with a key; everybody else is refused")


def _key(settings: Settings) -> Finding:
    if settings.accounts:
        count = len(settings.accounts)
        unused = "; deepseek_api_key is not used beside them" if settings.deepseek_api_key else ""
        detail = f"{count} account{'s'[: count != 1]}{unused}"
        return Finding("note" if unused else "ok", "key", detail, "deepseek-proxy accounts check asks each")
    if settings.deepseek_api_key:
        used = "all clients" if settings.asks_for_keys else "requests that bring none of their own"
        return Finding("ok", "key", f"configured; used for {used}")
    return Finding("note", "key", "none configured", "each client sends its own, or set DEEPSEEK_API_KEY")


def _upstream(settings: Settings) -> Iterator[Finding]:
    base = str(settings.upstream_url).rstrip("/")
    try:
        status, body = _get(f"{base}/models", settings)
    except OSError as error:
        yield _unreachable(base, error)
        return
    except (http.client.HTTPException, ValueError) as error:
        yield Finding("fail", "upstream", f"{base} does not speak HTTP: {error}", "check upstream_url")
        return
    if status == 401 and not settings.deepseek_api_key:
        yield Finding("ok", "upstream", f"{base} answers, and asks for a key as it should")
    elif status == 401:
        advice = f"make a new key at {_KEYS_PAGE} and set DEEPSEEK_API_KEY to it"
        yield Finding("fail", "upstream", f"{base} refuses the configured key (401)", advice)
    elif status != 200 or not isinstance(body, dict) or not isinstance(body.get("data"), list):
        advice = "check upstream_url: `/models` and `/chat/completions` are added to it"
        yield Finding("fail", "upstream", f"{base}/models answers {status} and no list of models", advice)
    else:
        names = ", ".join(str(model.get("id")) for model in body["data"] if isinstance(model, dict))
        yield Finding("ok", "upstream", f"{base} answers; models: {names}")
        if settings.deepseek_api_key:
            yield from _balance(base, settings)


def _unreachable(base: str, error: OSError) -> Finding:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        advice = "set upstream_ca_file to the CA bundle of your network's proxy, or correct upstream_url"
        return Finding("fail", "upstream", f"{base}: {reason.verify_message}", advice)
    advice = "check the network, upstream_url, and upstream_proxy if a proxy leads out of your network"
    return Finding("fail", "upstream", f"{base} cannot be reached: {reason}", advice)


def _balance(base: str, settings: Settings) -> Iterator[Finding]:
    """DeepSeek's own page only: other hosts have none, and that is fine."""
    try:
        status, body = _get(f"{base}/user/balance", settings)
    except (OSError, http.client.HTTPException, ValueError):
        return
    if status != 200 or not isinstance(body, dict) or not isinstance(body.get("balance_infos"), list):
        return
    amounts = ", ".join(
        f"{info.get('total_balance')} {info.get('currency')}" for info in body["balance_infos"]
    )
    if body.get("is_available"):
        yield Finding("ok", "balance", amounts)
    else:
        yield Finding(
            "fail", "balance", f"{amounts}: not enough for a call", "top up at https://platform.deepseek.com"
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would take the key to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


def _get(url: str, settings: Settings) -> tuple[int, Any]:
    """Status and JSON body (None where it is no JSON) of one GET. Raises `OSError` where no answer came."""
    proxy = settings.upstream_proxy.get_secret_value() if settings.upstream_proxy else None
    trust = ssl.create_default_context(cafile=str(settings.upstream_ca_file or certifi.where()))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {}),
        urllib.request.HTTPSHandler(context=trust),
        _NoRedirect,
    )
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  # AnyHttpUrl
    if settings.deepseek_api_key:
        request.add_header("Authorization", f"Bearer {settings.deepseek_api_key.get_secret_value()}")
    try:
        with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
            status, text = answer.status, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read(1 << 20)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, None


def _port(settings: Settings) -> Finding:
    try:
        free_port(settings.host, settings.port)
    except click.ClickException as error:
        url = url_of(settings.host, settings.port)
        if (running := _running_version(url)) is not None:
            return Finding("ok", "port", f"deepseek-proxy {running} is serving at {url}")
        return Finding("fail", "port", error.message, "or set port (DEEPSEEK_PROXY_PORT)")
    return Finding("ok", "port", f"{settings.port} on {settings.host} is free")


def _running_version(url: str) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/version", timeout=_PATIENCE_SECONDS) as answer:
            body = json.loads(answer.read(1 << 20))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return str(body["version"]) if isinstance(body, dict) and body.get("name") == "deepseek-proxy" else None


def _sealing(settings: Settings) -> Finding:
    if not settings.seal_keys and not (settings.state_dir / KEY_FILE).exists():
        return _folder("state", settings.state_dir, "state_dir")  # where the key will be made
    try:
        count = len(load_or_create_keys(settings))
    except SettingsError as error:
        return Finding("fail", "sealing", str(error))
    source = "seal_keys" if settings.seal_keys else settings.state_dir
    return Finding("ok", "sealing", f"{count} key{'s'[: count != 1]} from {source}")


def _store(settings: Settings) -> Iterator[Finding]:
    try:
        store = open_store(settings)
    except SettingsError as error:
        yield Finding("fail", "store", str(error))
        return
    if store is None:
        detail = "nothing is stored"
        yield Finding("note" if settings.store_url is None else "ok", "store", detail, "see docs/state.md")
        return
    try:
        if store.backend.is_there():
            held = store.usage()
            number = f"{held.responses} responses, {held.conversations} conversations"
            size = f"{held.bytes / 1e6:,.1f} of {settings.store_max_bytes / 1e6:,.0f} MB"
            yield Finding("ok", "store", f"{store.backend.name}: {number}, {size}")
            yield from (Finding("note", "store", advice) for advice in store.backend.advice())
        else:
            yield Finding("ok", "store", f"{store.backend.name}: will be made with the first response")
    except StoreUnavailable as error:
        yield Finding("fail", "store", error.message, "responses cannot be stored; see docs/state.md")
    finally:
        store.close()


def _folder(subject: str, folder: Path, setting: str) -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            "ok",
            subject,
            f"{folder} is writable" if existing == folder.absolute() else f"{folder} can be made",
        )
    advice = f"give this user the right to write there, or set {setting} ({ENV_PREFIX}{setting.upper()})"
    return Finding("fail", subject, f"{existing} is not a folder that can be written to", advice)

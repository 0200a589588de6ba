"""The operator's routes: health, readiness, version, metrics."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request

from deepseek_proxy.api import auth
from deepseek_proxy.api.gateway import Gateway, current_gateway
from deepseek_proxy.consistency import is_loopback
from deepseek_proxy.errors import NotFound, PermissionDenied
from deepseek_proxy.ops.metrics import Level
from deepseek_proxy.store.ledger.base import LedgerUnavailable
from deepseek_proxy.upstream import overview
from deepseek_proxy.version import __version__

logger = logging.getLogger(__name__)
blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Whether the process answers at all."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether new work is welcome; 503 from the moment at which the server is told to stop."""
    if current_gateway().drain.begun:
        response = jsonify(status="draining")
        response.status_code = 503
        return response
    return jsonify(status="ready")


@blueprint.get("/version")
def version() -> Response:
    return jsonify(name="deepseek-proxy", version=__version__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus' exposition, for callers on the same machine and for those with the admin key."""
    gateway = current_gateway()
    if not _is_local() and not auth.is_admin(request, gateway.settings):
        raise PermissionDenied(
            "Metrics are served to this machine, and to others who send the admin key as a bearer token."
        )
    body, content_type = gateway.metrics.render(_levels(gateway))
    return Response(body, content_type=content_type)


@blueprint.get("/admin/accounts")
def accounts() -> Response:
    """How the accounts and the proxies are doing, for those who may see the metrics."""
    gateway = current_gateway()
    if not _is_local() and not auth.is_admin(request, gateway.settings):
        raise PermissionDenied(
            "Accounts are shown to this machine, and to others who send the admin key as a bearer token."
        )
    client = gateway.client
    if client.accounts is None:
        raise NotFound("The gateway has no list of accounts: see docs/accounts.md.")
    return jsonify(overview.accounts_page(client, client.accounts))


def _levels(gateway: Gateway) -> list[Level]:
    accounts = gateway.client.accounts
    if accounts is None:
        return []
    try:
        return list(overview.levels(accounts))
    except LedgerUnavailable as error:
        logger.warning("The metrics lack the accounts: %s", error.message)
        return []


def _is_local() -> bool:
    # A reverse proxy on this machine forwards strangers: whoever comes through one is not local.
    if request.headers.get("X-Forwarded-For") or request.headers.get("Forwarded"):
        return False
    # And neither is a page whose name was made to point at this machine.
    return is_loopback(request.remote_addr) and is_loopback(urlsplit(f"//{request.host}").hostname)

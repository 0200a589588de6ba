"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response, request

from deepseek_proxy import models
from deepseek_proxy.api.allowance import may_use
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import Gateway, current_gateway
from deepseek_proxy.errors import ModelNotFound
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses import catalogue, codex

blueprint = Blueprint("models", __name__)


@blueprint.get("/v1/models")
@blueprint.get("/models")
def list_models() -> Response:
    """Lists the models; Codex adds `?client_version=`, and asks again when the ETag has changed."""
    current_exchange().dialect = "models"
    gateway = current_gateway()
    aliases = [
        (name, found.model) for name in _names(gateway) if (found := _known(gateway, name)) is not None
    ]
    max_effort = codex.knows_max_effort(request.args.get("client_version"))
    client = current_exchange().client
    listed = [m for m in models.MODELS.values() if may_use(client, models.Resolved(m.id, m))]
    aliases = [(name, m) for name, m in aliases if may_use(client, models.Resolved(name, m))]
    body = jsontext.dumps(catalogue.model_list(listed, aliases, max_effort=max_effort))
    response = Response(body, mimetype="application/json")
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.make_conditional(request)
    return response


@blueprint.get("/v1/models/<path:name>")
@blueprint.get("/models/<path:name>")
def retrieve_model(name: str) -> Response:
    """One model, by any name that is known; names that are only mapped to the default are not."""
    current_exchange().dialect = "models"
    found = _known(current_gateway(), name)
    if found is None or not may_use(current_exchange().client, found):
        raise ModelNotFound(f"The model '{name[:200]}' does not exist.", param="model")
    return Response(jsontext.dumps(catalogue.openai_model(found.model, name)), mimetype="application/json")


def _names(gateway: Gateway) -> list[str]:
    """The names beside the models' own, each once: the built-in ones, and the operator's."""
    searching = (f"{name}{models.SEARCH_SUFFIX}" for name in models.LISTED_ALIASES)
    return list(dict.fromkeys((*models.LISTED_ALIASES, *searching, *gateway.settings.model_aliases)))


def _known(gateway: Gateway, name: str) -> models.Resolved | None:
    return models.resolve(name, gateway.settings.model_aliases, default=None)

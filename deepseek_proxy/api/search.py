"""`POST /v1/alpha/search`: the search that Codex offers its model by itself, outside any response."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from deepseek_proxy.api import auth, streaming
from deepseek_proxy.api.body import read_object
from deepseek_proxy.api.exchange import current_exchange
from deepseek_proxy.api.gateway import current_gateway
from deepseek_proxy.errors import NotFound
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses import standalone

blueprint = Blueprint("search", __name__)


@blueprint.post("/v1/alpha/search")
@blueprint.post("/alpha/search")
def search() -> Response:
    """Runs the commands of one request, and answers with one text."""
    gateway, exchange = current_gateway(), current_exchange()
    exchange.dialect = "responses"
    settings = gateway.settings
    client_gone = streaming.watch(request)
    if settings.web_search == "off":
        raise NotFound("Web search is off. The operator of this gateway can set web_search to 'deepseek'.")
    caller = auth.identify(request, gateway)
    today = datetime.now(UTC).date()
    body = read_object(request, settings)
    asked = standalone.parse(body, max_actions=settings.web_search_calls, today=today)
    allowance = gateway.limiter.take(caller.client, None, exchange)
    try:
        lookups = gateway.searcher.start(asked.actions, caller.key, exchange.id, exchange.add_search)
        try:
            outcomes = lookups.wait(lambda: streaming.check(gateway, client_gone))
        finally:
            lookups.close()
    finally:
        allowance.settle()
    return Response(jsontext.dumps({"output": asked.output(outcomes)}), mimetype="application/json")

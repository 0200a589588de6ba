"""A gateway in a few lines, by which the harness tests itself: passes upstream bytes on as they come.

The header `X-Leak` makes it keep its upstream connection for ever: something for the leak guard to find.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Flask, Response, request

app = Flask(__name__)
_kept: list[http.client.HTTPConnection] = []


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.post("/v1/responses")
def responses() -> Response:
    upstream = http.client.HTTPConnection(urlsplit(os.environ["DEEPSEEK_PROXY_UPSTREAM_URL"]).netloc)
    upstream.request("POST", "/chat/completions", request.get_data())
    answer = upstream.getresponse()
    leak = "X-Leak" in request.headers

    def body() -> Iterator[bytes]:
        try:
            while piece := answer.read1(65536):
                yield piece
        finally:
            if leak:
                _kept.append(upstream)
            else:
                upstream.close()
                answer.close()

    return Response(body(), answer.status, content_type=answer.headers["Content-Type"])

"""A gateway that lets clients of Responses and of Chat Completions run on DeepSeek.

The primitives, from the wire inwards:

- `upstream.client` opens a call to DeepSeek and yields the bytes that have arrived;
- `translate.sse.Decoder` makes data payloads of them, `translate.hub.ChunkParser` makes chunks;
- a dialect's stream machine (`translate.responses.stream`) turns chunks into that dialect's frames;
- `pipeline` joins the three, adds heartbeats and deadlines, and ends every stream exactly once;
- `api` puts the result on the network as a Flask application, `app.create_app` wires it.
"""

from deepseek_proxy.version import __version__

__all__ = ["__version__"]

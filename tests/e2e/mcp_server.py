"""A small real MCP server over stdio, run by Codex: adds numbers, and shows a picture.

Follows the Model Context Protocol, revision 2025-06-18: JSON-RPC 2.0, one message a line. The schemas have
what real servers' schemas have and DeepSeek's do not: references, and an object without any properties.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from e2e.samples import PNG

CONFIGURATION: Final = {
    "mcp_servers.demo-srv.command": sys.executable,
    "mcp_servers.demo-srv.args": ["-m", "e2e.mcp_server"],
    "mcp_servers.demo-srv.env.PYTHONPATH": str(Path(__file__).parents[1]),
}
"""Codex settings under which it starts this server."""
TOOLS = [
    {
        "name": "add",
        "description": "Adds two numbers.",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/number"}, "b": {"$ref": "#/$defs/number"}},
            "required": ["a", "b"],
            "$defs": {"number": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        },
    },
    {"name": "picture", "description": "Shows a picture.", "inputSchema": {"type": "object"}},
]


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if name == "add":
        return {"content": [{"type": "text", "text": f"the sum is {arguments['a'] + arguments['b']}"}]}
    shown = [{"type": "text", "text": "one pixel:"}, {"type": "image", "data": PNG, "mimeType": "image/png"}]
    return {"content": shown}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "demo", "version": "1"},
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            return call(params["name"], params.get("arguments") or {})
    return {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(message["method"], message.get("params") or {})
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()

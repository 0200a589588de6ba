"""`deepseek-proxy demo`: the whole way once, on this machine alone, without a key.

Starts the simulator and a real gateway (gunicorn), then plays a client: a streamed Responses request with a
tool, the tool's result sent back, the final answer. Any client could do the same, so it has no library.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import click

from deepseek_proxy.cli.child import running_gateway

_TOKEN_SECONDS = 0.03

_QUESTION = "What is the weather in Hamburg?"
_TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city, now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Hamburg", "Shanghai"]}},
        "required": ["city"],
    },
}
_TOOL_RESULT = "9 degrees, light rain, wind from the west"


class DemoFailed(click.ClickException):
    """The demo did not run to its end; the message says where it stopped."""


@click.command("demo", short_help="Show a streamed answer; needs neither key nor network.")
def command() -> None:
    """Show a streamed answer with thinking and a tool call, against the simulator, then stop."""
    from deepseek_proxy.simulator import SimulatorConfig, running

    with (
        running(SimulatorConfig(token_seconds=_TOKEN_SECONDS)) as upstream,
        tempfile.TemporaryDirectory(prefix="deepseek-proxy-demo-") as folder,
        running_gateway(inherit=False, upstream_url=upstream, state_dir=folder) as port,
    ):
        click.secho(f"simulator at {upstream}, gateway at http://127.0.0.1:{port}/v1\n", dim=True)
        _say("you", _QUESTION, "green")
        conversation: list[dict[str, Any]] = [{"role": "user", "content": _QUESTION}]
        output, _ = _turn(port, conversation)
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            raise DemoFailed("the answer holds no tool call")
        results = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": _TOOL_RESULT}
            for call in calls
        ]
        _say("result", _TOOL_RESULT, "yellow")
        output, usage = _turn(port, [*conversation, *output, *results])
        if not any(item["type"] == "message" for item in output):
            raise DemoFailed("the second answer holds no message")
        cached = usage["input_tokens_details"]["cached_tokens"]
        click.secho(
            f"\n{usage['input_tokens']} tokens in, {cached} of them from the cache; "
            f"{usage['output_tokens']} out. Next: make run, or deepseek-proxy serve",
            dim=True,
        )


def _turn(port: int, conversation: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One streamed request, shown as it arrives. Gives the output items and the usage."""
    ending: dict[str, Any] = {}
    part = ""
    for event in _events(
        port, {"model": "deepseek-flash", "input": conversation, "tools": [_TOOL], "stream": True}
    ):
        match event["type"]:
            case "response.reasoning_summary_text.delta":
                part = _continue(part, "thinks", event["delta"], "bright_black")
            case "response.output_text.delta":
                part = _continue(part, "answers", event["delta"], "cyan")
            case "response.output_item.done" if event["item"]["type"] == "function_call":
                part = _continue(
                    part, "calls", f"{event['item']['name']}({event['item']['arguments']})", "magenta"
                )
            case "response.completed":
                ending = event["response"]
            case "response.failed" | "response.incomplete" | "error":
                raise DemoFailed(f"the answer ended with {json.dumps(event)}")
    click.echo()
    if not ending:
        raise DemoFailed("the stream ended without a terminal event")
    return ending["output"], ending["usage"]


def _events(port: int, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "POST",
            "/v1/responses",
            json.dumps(body),
            {"Content-Type": "application/json", "Authorization": "Bearer sk-demo"},
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise DemoFailed(f"HTTP {answer.status}: {answer.read().decode(errors='replace')}")
        for line in answer:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"the connection to the gateway broke: {error}") from None
    finally:
        connection.close()


def _say(who: str, text: str, colour: str) -> None:
    click.echo(f"{click.style(f'{who:>8}', fg=colour, bold=True)}  {click.style(text, fg=colour)}")


def _continue(part: str, who: str, text: str, colour: str) -> str:
    """Shows `text` behind what is there, or on a new line where another part begins. Gives the part."""
    if who != part:
        click.echo(("\n" if part else "") + click.style(f"{who:>8}", fg=colour, bold=True) + "  ", nl=False)
    click.secho(text, fg=colour, nl=False)
    sys.stdout.flush()
    return who

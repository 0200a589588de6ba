"""What holds for every request and for whole conversations: DeepSeek accepts what is sent, and what has been
sent once never changes.

The conversations are played as clients play them: the items of an answer come back in the next request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from harness import deepseek
from harness.histories import PNG
from harness.junk import WRONG, spoiled
from harness.machines import context, healer_for, judged, machine_for, play, seal, turn
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses.request import parse
from deepseek_proxy.translate.sealed import Purpose

Check = Callable[[Any], tuple[int, str | None]]
Prompt = Callable[[Any], str]
Item = dict[str, Any]

OBJECT = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS: list[Item] = [
    {"type": "function", "name": "read", "description": "Reads.", "parameters": OBJECT, "strict": True},
    {"type": "function", "name": "fs.list", "parameters": None},
    {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
    {
        "type": "namespace",
        "name": "mcp__srv",
        "description": "A server.",
        "tools": [{"type": "function", "name": "add"}],
    },
    {"type": "shell"},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "tool_search"},
    {"type": "image_generation"},
]

# -- one request ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["json", "Hi", "<｜User｜>"]
)
IDS = st.sampled_from(["a", "b", "c", "", None])
PART = st.one_of(
    st.builds(
        lambda kind, text: {"type": kind, "text": text}, st.sampled_from(["input_text", "output_text"]), TEXT
    ),
    st.sampled_from(
        [
            {"type": "input_image", "image_url": PNG, "detail": "high"},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
            {"type": "input_image", "image_url": "data:image/svg+xml;base64,AAAA"},
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain,hello"},
            {"type": "refusal", "refusal": "No."},
            {"type": "something_new"},
        ]
    ),
)
CONTENT = TEXT | st.lists(PART, max_size=3)
NAME = st.sampled_from(["read", "fs.list", "patch", "add", "gone"])
ARGUMENTS = st.sampled_from(
    ['{"path": "a"}', "{}", "", '{"path": not json}', '{"cut', None, {"an": "object"}]
)
ITEM = st.one_of(
    st.builds(
        lambda role, content: {"type": "message", "role": role, "content": content},
        st.sampled_from(["user", "assistant", "system", "developer"]),
        CONTENT,
    ),
    st.builds(
        lambda text: {"type": "reasoning", "summary": [], "encrypted_content": seal(Purpose.REASONING, text)},
        TEXT,
    ),
    st.builds(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}, TEXT),
    st.builds(
        lambda call_id, name, arguments: {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        },
        *(IDS, NAME, ARGUMENTS),
    ),
    st.builds(
        lambda call_id, output: {"type": "function_call_output", "call_id": call_id, "output": output},
        IDS,
        CONTENT,
    ),
    st.builds(
        lambda call_id, text: {
            "type": "custom_tool_call",
            "call_id": call_id,
            "name": "patch",
            "input": text,
        },
        *(IDS, TEXT),
    ),
    st.builds(
        lambda call_id: {"type": "shell_call", "call_id": call_id, "action": {"commands": ["ls"]}},
        IDS,
    ),
    st.sampled_from(
        [
            {"type": "local_shell_call", "id": "lsh_1", "call_id": "b", "action": {"command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "lsh_1", "output": "a"},
            {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"},
            {"type": "mcp_call", "id": "mcp_1", "server_label": "srv", "name": "add", "arguments": "{}"},
            {"type": "tool_search_call", "call_id": "a", "arguments": {"query": "x"}},
            {"type": "tool_search_output", "call_id": "a", "tools": [TOOLS[0], TOOLS[3]]},
            {"type": "additional_tools", "role": "developer", "tools": [TOOLS[2]]},
            {"type": "agent_message", "author": "x", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "file_search_call", "id": "fs_1"},
            {"type": "compaction_trigger"},
            {"role": "user", "content": "Go on."},
        ]
    ),
)
SCHEMA = st.sampled_from(
    [
        None,
        {},
        OBJECT,
        {"type": None},
        {"type": "string"},
        {"$ref": "#/$defs/a", "$defs": {"a": OBJECT}},
        {"type": ["object", "null"], "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"type": "array"}, "b": {}, "c": True}, "required": ["zzz"]},
        {"properties": {"a": {"type": "integer", "minimum": "one"}}},
    ]
)
TOOL = st.one_of(
    st.sampled_from(TOOLS),
    st.builds(
        lambda name, schema: {"type": "function", "name": name, "parameters": schema},
        st.text(min_size=1, max_size=90),
        SCHEMA,
    ),
)
CHOICE = st.sampled_from(
    [
        *(None, "auto", "none", "required", {"type": "function", "name": "read"}, {"type": "shell"}),
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "read"}]},
        {"type": "allowed_tools", "mode": "auto", "tools": []},
    ]
)
FORMAT = st.sampled_from(
    [
        *({"type": "text"}, {"type": "json_object"}, None),
        {"type": "json_schema", "name": "reply", "schema": {**OBJECT, "additionalProperties": False}},
    ]
)
BODY = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            ["deepseek-flash", "deepseek-v4-pro", "deepseek-chat", "deepseek-reasoner", "gpt-9"]
        ),
        "input": TEXT | st.lists(ITEM, max_size=10),
    },
    optional={
        "instructions": TEXT,
        "stream": st.booleans(),
        "tools": st.lists(TOOL, max_size=5),
        "tool_choice": CHOICE,
        "parallel_tool_calls": st.booleans(),
        "reasoning": st.builds(
            lambda effort: {"effort": effort, "summary": "auto"},
            st.sampled_from([None, "none", "minimal", "medium", "xhigh", "max", "heroic"]),
        ),
        "text": st.builds(
            lambda form, verbosity: {"format": form, "verbosity": verbosity},
            *(FORMAT, st.sampled_from([None, "low", "medium", "high"])),
        ),
        "temperature": st.sampled_from([0, 0.7, 2, 2.1]),
        "top_p": st.sampled_from([0, 0.5, 1]),
        "top_logprobs": st.integers(0, 20),
        "max_output_tokens": st.integers(1, 10**6),
        "presence_penalty": st.sampled_from([-2, 0, 2]),
        "include": st.sampled_from([[], ["message.output_text.logprobs"], ["reasoning.encrypted_content"]]),
        "safety_identifier": TEXT,
        "metadata": st.just({"a": "b"}),
        "previous_response_id": st.none(),
        "made_up": st.just(1),
    },
)


@settings(max_examples=1000)
@given(body=BODY, errand=st.booleans())
def test_deepseek_accepts_whatever_is_sent(body: dict[str, Any], errand: bool, deepseek_check: Check) -> None:
    """A request is refused here, with the path of a field, or nowhere."""
    refused = None
    try:
        assert deepseek_check(parse(body, context(errand=errand)).upstream) == (200, None)
    except ProxyError as error:
        refused = error
    assert refused is None or (refused.param and refused.status in (400, 404))


@settings(max_examples=600)
@given(body=BODY, wrong=WRONG)
def test_no_body_whatever_is_a_fault_of_the_gateway(
    body: dict[str, Any], wrong: list[tuple[int, Any]]
) -> None:
    body = spoiled(body, wrong)
    refused = None
    try:
        request = parse(body, context())
        assert jsontext.dumps(request.upstream)
        assert machine_for(request).start()
    except ProxyError as error:
        refused = error
    assert refused is None or refused.status in (400, 404)


@settings(max_examples=150)  # the SDK builds its types when they are first asked for
@given(body=BODY)
def test_openais_types_take_the_answer_to_any_request(body: dict[str, Any]) -> None:
    """What a request asked for is repeated in its answer, in the form that the SDK's strict mode wants."""
    if (body.get("reasoning") or {}).get("effort") == "heroic":
        return  # which the SDK does not know either
    with contextlib.suppress(ProxyError):
        answering = machine_for(parse(body, context()))
        final = judged(play([*deepseek.frames()], turn(answering)))
        Response.model_validate(final, strict=True)


# -- whole conversations --------------------------------------------------------------------------


@dataclass
class Client:
    """How one client sends back what it got. `history` grows with every turn."""

    send: Callable[[Item], Item | None]
    history: list[Item] = field(default_factory=list)

    def take(self, output: list[Item]) -> None:
        self.history += [sent for item in output if (sent := self.send(item)) is not None]


def verbatim(item: Item) -> Item:
    """An SDK: the item as it came."""
    return item


def codex(item: Item) -> Item:
    """Codex: reasoning without id and content, messages without id and status."""
    dropped = {"reasoning": ("id", "content"), "message": ("id", "status")}.get(item["type"], ())
    return {key: value for key, value in item.items() if key not in dropped}


def unsealed(item: Item) -> Item:
    """A client that knows no `encrypted_content`: the summary is all there is."""
    return {key: value for key, value in item.items() if key != "encrypted_content"}


def forgetful(item: Item) -> Item | None:
    """A client that drops thinking. The gateway remembers it by call id."""
    return None if item["type"] == "reasoning" else item


def easy(item: Item) -> Item | None:
    """A hand-written client: plain messages without type."""
    if item["type"] == "message":
        return {"role": "assistant", "content": "".join(part.get("text", "") for part in item["content"])}
    return forgetful(item)


CLIENTS = [verbatim, codex, unsealed, forgetful, easy]


@dataclass(frozen=True)
class Move:
    """One turn: what the model does, and what the client puts behind it."""

    thinking: str | None
    text: str
    calls: list[tuple[int, str]]  # which of the declared tools, and with which arguments
    reason: str
    results: str
    user: list[Item]


PIECE = st.sampled_from(["Hm.", "ok\n\n", " ", "ü", "你好", "<b>", 'a\\n"b"', "# T"])
MOVE = st.builds(
    Move,
    thinking=st.none() | st.lists(PIECE, max_size=3).map("".join),
    text=st.lists(PIECE, max_size=3).map("".join),
    calls=st.lists(
        st.tuples(
            st.integers(0, 20),
            st.sampled_from(
                ['{"path": "a"}', '{"input": "x\\n"}', '{"commands": ["ls"]}', "{}", '{"a": no}', ""]
            ),
        ),
        max_size=3,
    ),
    reason=st.sampled_from(["stop"] * 4 + ["length", "aborted"]),
    results=st.sampled_from(
        ["in order", "in order", "reversed", "with a message between", "with images", "missing"]
    ),
    user=st.lists(
        st.sampled_from(
            [
                {"role": "user", "content": "Go on, in json."},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
                {"role": "developer", "content": "Hurry."},
                {"role": "user", "content": [{"type": "input_image", "image_url": PNG}]},
                {"type": "image_generation_call", "id": "ig_1"},
            ]
        ),
        max_size=2,
    ),
)


def spoken(move: Move, names: list[str], turn_number: int) -> list[bytes]:
    """DeepSeek's frames for a move."""
    thinks = move.thinking is not None
    opening = {"content": None, "reasoning_content": ""} if thinks else {"content": ""}
    deltas: list[dict[str, Any]] = [{"role": "assistant", **opening}]
    if move.thinking:
        deltas.append({"content": None, "reasoning_content": move.thinking})
    if move.text:
        deltas.append({"content": move.text})
    for index, (which, arguments) in enumerate(move.calls if names else ()):
        function = {"name": names[which % len(names)], "arguments": arguments}
        call_id = f"call_{index:02}_{turn_number}"
        deltas.append(
            {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        )
    frames = [deepseek.event(deepseek.chunk(delta)) for delta in deltas]
    return [*frames, deepseek.last(move.reason), deepseek.DONE]


RESULTS: dict[str, Callable[[Item, Any], Item]] = {
    "function_call": lambda call, output: {"type": "function_call_output", "output": output},
    "custom_tool_call": lambda call, output: {"type": "custom_tool_call_output", "output": output},
    "local_shell_call": lambda call, output: {
        "type": "local_shell_call_output",
        "id": call["id"],
        "output": output,
    },
    "shell_call": lambda call, output: {
        "type": "shell_call_output",
        "output": [{"stdout": "a", "stderr": ""}],
    },
    "apply_patch_call": lambda call, output: {"type": "apply_patch_call_output", "status": "completed"},
    "tool_search_call": lambda call, output: {"type": "tool_search_output", "tools": []},
}


def results_of(output: list[Item], how: str) -> list[Item]:
    """What the client puts behind the calls of an answer."""
    text: Any = "done"
    if how == "with images":
        text = [{"type": "input_text", "text": "done"}, {"type": "input_image", "image_url": PNG}]
    results = []
    for item in output:
        if item["type"] in RESULTS and how != "missing":
            made = RESULTS[item["type"]](item, text)
            results.append(made if "id" in made else {"call_id": item["call_id"], **made})
    if how == "reversed":
        results.reverse()
    if how == "with a message between" and results:
        results.insert(0, {"role": "developer", "content": "A notice."})
    return results


@settings(max_examples=400)
@given(
    client=st.sampled_from(CLIENTS).map(Client),
    moves=st.lists(MOVE, min_size=1, max_size=5),
    tools=st.lists(st.sampled_from(TOOLS), max_size=5),
    around=st.fixed_dictionaries(
        {"model": st.sampled_from(["deepseek-flash", "deepseek-v4-pro"])},
        optional={
            "instructions": st.just("Be brief."),
            "reasoning": st.sampled_from([{"effort": "none"}, {"effort": "low"}]),
            "text": st.sampled_from([{"verbosity": "low"}, {"format": {"type": "json_object"}}]),
            "parallel_tool_calls": st.booleans(),
        },
    ),
    shown=st.sampled_from(["summary", "text", "hidden"]),
)
def test_what_was_sent_once_is_sent_again_byte_for_byte(
    client: Client,
    moves: list[Move],
    tools: list[Item],
    around: dict[str, Any],
    shown: str,
    deepseek_check: Check,
    deepseek_prompt: Prompt,
) -> None:
    """A token that DeepSeek has in its cache costs a fiftieth of one that it has not."""
    remembered: dict[str, str] = {}
    client.history.append({"role": "user", "content": "Hi"})
    sent: list[bytes] = []
    prompt = ""
    for number, move in enumerate(moves):
        body = {**around, "tools": tools, "stream": True, "input": client.history}
        request = parse(orjson.loads(orjson.dumps(body)), context(remembered.get))
        assert deepseek_check(request.upstream) == (200, None)
        now = [orjson.dumps(message) for message in request.upstream["messages"]]
        assert now[: len(sent)] == sent
        sent = now
        if "tools" in request.upstream:
            assert deepseek_prompt(request.upstream).startswith(prompt)
            prompt = deepseek_prompt(request.upstream)

        names = [entry["function"]["name"] for entry in request.upstream.get("tools", [])]
        answering = machine_for(request, reasoning_output=shown, remember=remembered.__setitem__)
        final = judged(play(spoken(move, names, number), turn(answering, healer_for(request.tools))))
        if final["status"] == "failed":
            continue  # the client asks again
        client.take(final["output"])
        client.history += [*results_of(final["output"], move.results), *move.user]
        last = client.history[-1]
        if not last.get("type", "").endswith("output") and last.get("role") not in ("user", "developer"):
            client.history.append({"role": "user", "content": "Next."})  # nobody answers a model with nothing

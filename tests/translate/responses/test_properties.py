"""What holds for every answer, however odd, and however it arrives: one well-formed stream for the client."""

from __future__ import annotations

from typing import Any

import pytest
from harness import deepseek
from harness.junk import WRONG, spoiled
from harness.machines import (
    Event,
    completion_of,
    cut,
    events_of,
    healer_for,
    judged,
    machine,
    payloads_of,
    play,
    table_of,
    turn,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepseek_proxy import pipeline
from deepseek_proxy.errors import UpstreamError
from deepseek_proxy.pipeline import Turn
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

# -- what an upstream may say ---------------------------------------------------------------------

TOOLS = (
    Tool(ToolKind.FUNCTION, "read"),
    Tool(ToolKind.FUNCTION, "add", "mcp__srv"),
    Tool(ToolKind.FUNCTION, "fs.list"),
    Tool(ToolKind.CUSTOM, "apply_patch"),
    Tool(ToolKind.SHELL, "shell"),
    Tool(ToolKind.LOCAL_SHELL, "local_shell"),
    Tool(ToolKind.TOOL_SEARCH, "tool_search"),
)
NAMES = [table_of(*TOOLS).upstream_name(tool) for tool in TOOLS]
LEAK = (
    '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="read">\n<｜DSML｜parameter name="path" string="true">a.py'
    "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
)
TEXTS = st.one_of(
    st.text(st.sampled_from('ab \n<>"\\é你😀\u0301\u2028\x1f/｜|'), max_size=8),
    st.sampled_from(
        ["<｜DSML｜", "</think>", "<｜DSML｜ calls>", LEAK, LEAK.replace("tool_calls", " calls")]
    ),
)
WHOLE = st.sampled_from(
    ['{"path": "a.py"}', '{"input": "*** ü\\n"}', '{"commands": ["ls"]}', "{}", '{"command":["a"]}']
)
BROKEN = st.sampled_from(["", '{"path": not json}', '{"commands": "ls"}', "[]", "plain", '{"input": "x'])
FINISHED = ["stop", "tool_calls", "length", "content_filter"]
UNFINISHED = ["insufficient_system_resource", "aborted", "new_reason", None]


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    data = text.encode("utf-32-le")
    return [
        piece.decode("utf-32-le") for piece in cut(data, [4 * (place % (len(text) + 1)) for place in cuts])
    ]


@st.composite
def in_pieces(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[str]:
    return pieces_of(draw(texts), draw(st.lists(st.integers(0, 60), max_size=4)))


def call_chunks(index: int, name: str, arguments: list[str]) -> list[dict[str, Any]]:
    opening = {"index": index, "id": f"call_0{index}_x", "type": "function"}
    first = {"tool_calls": [{**opening, "function": {"name": name, "arguments": ""}}]}
    rest = [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in arguments]
    return [deepseek.chunk(delta) for delta in (first, *rest)]


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Calls one after another."""
    names = draw(st.lists(st.sampled_from([*NAMES, "made_up"]), max_size=3))
    return [
        chunk
        for index, name in enumerate(names)
        for chunk in call_chunks(index, name, draw(in_pieces(WHOLE | BROKEN)))
    ]


@st.composite
def answers(draw: st.DrawFn, finishes: list[str | None]) -> list[dict[str, Any]]:
    """The chunks of an answer in DeepSeek's order: thinking, text, calls, the end with its usage."""
    thinks = draw(st.booleans())
    opening = {"content": None, "reasoning_content": ""} if thinks else {"content": ""}
    chunks = [deepseek.chunk({"role": "assistant", **opening})]
    if thinks:
        for piece in draw(in_pieces(TEXTS)):
            chunks.append(deepseek.chunk({"content": None, "reasoning_content": piece}))
    for piece in draw(in_pieces(st.lists(TEXTS, max_size=3).map("".join))):
        chunks.append(deepseek.chunk({"content": piece, **({"reasoning_content": None} if thinks else {})}))
    if draw(st.booleans()):
        chunks += [deepseek.chunk({"refusal": piece}) for piece in draw(in_pieces(TEXTS)) if piece]
    chunks += draw(calls())
    finish = draw(st.sampled_from(finishes))
    usage = draw(st.sampled_from(["with it", "after it", "never"]))
    last = deepseek.chunk(
        {"content": ""}, finish=finish, usage=deepseek.USAGE if usage == "with it" else None
    )
    chunks.append(last)
    if usage == "after it":
        chunks.append({**last, "choices": [], "usage": deepseek.USAGE})
    return chunks


@st.composite
def streams(draw: st.DrawFn, finishes: list[str | None], ends: tuple[bytes, ...] = (deepseek.DONE,)) -> bytes:
    """The bytes of an answer."""
    data = b"".join(map(deepseek.event, draw(answers(finishes)))) + draw(st.sampled_from(ends))
    return data.replace(b"\n", b"\r\n") if draw(st.booleans()) else data


ANY_STREAM = streams([*FINISHED, *UNFINISHED], (deepseek.DONE, b"", b"data: {\n\n"))

# An upstream that keeps no order at all.
ODD_DELTA = st.one_of(
    st.sampled_from([{"content": "a <b"}, {"reasoning_content": "c"}, {"refusal": "d"}, {"content": LEAK}]),
    st.builds(
        lambda index, name, arguments: {
            "tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]
        },
        st.integers(0, 3),
        st.sampled_from([*NAMES, *NAMES, None]),
        # A second piece for the same index goes on with the call, whatever name it has.
        st.sampled_from(["", " ", "{}", '{"comm', 'ands": ["ls"]}', '{"path": not json}']),
    ),
)
ODD_STREAM = st.builds(
    lambda deltas, finish: b"".join(
        [
            *(deepseek.event(deepseek.chunk(delta)) for delta in deltas),
            *(deepseek.last(reason) for reason in finish),
            deepseek.DONE,
        ]
    ),
    st.lists(ODD_DELTA, min_size=1, max_size=10),
    st.sampled_from([["stop"], ["tool_calls"], ["length"], ["stop", "length"], ["aborted"], []]),
)


def fresh(**options: Any) -> Turn:
    table = table_of(*TOOLS)
    return turn(machine(table, **options), healer_for(table))


OPTIONS = st.fixed_dictionaries(
    {
        "reasoning_output": st.sampled_from(["summary", "text", "openresponses", "hidden"]),
        "parallel_tool_calls": st.booleans(),
        "permitted": st.sampled_from([lambda _: True, lambda name: name == "read", lambda _: False]),
        "padding": st.sampled_from([None, lambda size: "x" * size]),
    }
)

# -- what the client gets -------------------------------------------------------------------------


@settings(max_examples=150)
@given(ANY_STREAM, OPTIONS, st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_gives_the_same_bytes(stream: bytes, options: dict[str, Any], cuts: list[int]) -> None:
    whole = play([stream], fresh(**options))
    assert play(cut(stream, cuts), fresh(**options)) == whole


@settings(max_examples=20)
@given(ANY_STREAM)
def test_byte_by_byte_is_a_split_too(stream: bytes) -> None:
    pieces = [stream[i : i + 1] for i in range(len(stream))]
    assert play(pieces, fresh()) == play([stream], fresh())


@settings(max_examples=200)
@given(ANY_STREAM | ODD_STREAM, OPTIONS)
def test_every_stream_is_well_formed_and_ends_once(stream: bytes, options: dict[str, Any]) -> None:
    """`judged` knows the grammar: one terminal event, dense indices, sequence numbers without gaps."""
    playing = fresh(**options)
    final = judged(play([stream], playing))
    assert playing.feed(stream) == playing.eof() == playing.machine.heartbeat() == b""
    assert (final["status"] == "failed") is (playing.machine.error is not None)


@settings(max_examples=100)
@given(ANY_STREAM | ODD_STREAM, OPTIONS, st.lists(st.booleans(), max_size=30))
def test_a_heartbeat_fits_in_anywhere(stream: bytes, options: dict[str, Any], beats: list[bool]) -> None:
    playing = fresh(**options)
    data = playing.machine.start()
    frames = [frame + b"\n\n" for frame in stream.replace(b"\r", b"").split(b"\n\n")]
    for at, frame in enumerate(frames):
        if not playing.ended:
            data += playing.feed(frame)
        if at < len(beats) and beats[at]:
            data += playing.machine.heartbeat()
    judged(data + (b"" if playing.ended else playing.eof()))


@settings(max_examples=100)
@given(ANY_STREAM | ODD_STREAM, OPTIONS, st.integers(0, 5000))
def test_a_failure_fits_in_anywhere(stream: bytes, options: dict[str, Any], place: int) -> None:
    playing = fresh(**options)
    data = playing.machine.start() + playing.feed(stream[: place % (len(stream) + 1)])
    had_ended = playing.ended
    final = judged(data + playing.fail(UpstreamError("Gone.")))
    if not had_ended:
        assert (final["status"], final["error"]["message"]) == ("failed", "Gone.")


@settings(max_examples=200)
@given(answers([*FINISHED]), WRONG)
def test_no_chunk_whatever_breaks_the_stream(
    chunks: list[dict[str, Any]], wrong: list[tuple[int, Any]]
) -> None:
    judged(play([*map(deepseek.event, spoiled(chunks, wrong)), deepseek.DONE], fresh()))


def folded(events: list[Event]) -> list[dict[str, Any]]:
    """The items as a client puts them together from the deltas alone."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            items.append({**event["item"], "said": ""})
        elif "delta" in event:
            items[event["output_index"]]["said"] += event["delta"]
    return items


@settings(max_examples=100)
@given(ANY_STREAM)
def test_the_deltas_say_what_the_items_hold(stream: bytes) -> None:
    data = play([stream], fresh())
    items = {item["id"]: item for item in judged(data)["output"]}
    for item in folded(events_of(data)):
        closed = items.get(item["id"])
        if closed is None:
            continue  # of an answer that failed
        texts = [
            part.get("text", part.get("refusal"))
            for key in ("content", "summary")
            for part in closed.get(key, [])
        ]
        whole = "".join(texts) if "arguments" not in closed and "input" not in closed else None
        said = closed.get("arguments", closed.get("input", whole))
        if item["type"] in ("message", "reasoning", "function_call", "custom_tool_call"):
            assert item["said"] == said


@settings(max_examples=150)
@given(streams([*FINISHED, *UNFINISHED]), OPTIONS)
def test_an_answer_says_the_same_streamed_and_whole(stream: bytes, options: dict[str, Any]) -> None:
    streamed = judged(play([stream], fresh(**options)))
    table = table_of(*TOOLS)
    answering = machine(table, **options)
    completion = jsontext.dumps(completion_of(payloads_of(stream)))
    if streamed["status"] == "failed":
        with pytest.raises(UpstreamError) as caught:
            pipeline.complete(completion, answering, healer_for(table))
        assert caught.value.message == streamed["error"]["message"]
    else:
        pipeline.complete(completion, answering, healer_for(table))
        assert answering.response == streamed


def test_a_refusal_does_not_overtake_text_that_was_kept_back() -> None:
    """As in a whole answer, where the text is read to its end first."""
    refusal = deepseek.event(deepseek.chunk({"refusal": "No."}))
    final = judged(play([deepseek.text("a <"), refusal, deepseek.last(), deepseek.DONE], fresh()))
    assert [part["type"] for part in final["output"][0]["content"]] == ["output_text", "refusal"]
    assert final["output"][0]["content"][0]["text"] == "a <"


@settings(max_examples=100)
@given(streams(FINISHED), st.sampled_from([*NAMES, "made_up"]))
def test_a_forbidden_call_is_never_shown(stream: bytes, allowed: str) -> None:
    final = judged(play([stream], fresh(permitted=lambda name: name == allowed, parallel_tool_calls=False)))
    called = [item for item in final["output"] if item["type"] not in ("message", "reasoning")]
    assert len(called) <= 1
    tool = table_of(*TOOLS).client_tool(allowed)
    assert all(item.get("name", tool.name) == tool.name for item in called)


# -- names ----------------------------------------------------------------------------------------

ANY_NAME = st.text(st.sampled_from("ab_.-/读 "), min_size=1, max_size=70)


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(
            Tool,
            st.sampled_from([ToolKind.FUNCTION, ToolKind.CUSTOM]),
            ANY_NAME,
            st.none() | ANY_NAME,
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda tool: tool.key,
    )
)
def test_a_call_comes_back_under_the_name_and_in_the_shape_it_was_declared_in(tools: list[Tool]) -> None:
    table: ToolTable = table_of(*tools)
    sent = [entry["function"]["name"] for entry in table.declarations]
    assume(len(sent) == len(tools))
    chunks = [chunk for at, name in enumerate(sent) for chunk in call_chunks(at, name, ["{}"])]
    stream = b"".join([*map(deepseek.event, chunks), deepseek.last("tool_calls"), deepseek.DONE])
    output = judged(play([stream], turn(machine(table), healer_for(table))))["output"]
    shapes = {"function_call": ToolKind.FUNCTION, "custom_tool_call": ToolKind.CUSTOM}
    assert [Tool(shapes[item["type"]], item["name"], item.get("namespace")) for item in output] == tools

from __future__ import annotations

import json
from itertools import count, pairwise

import deepseek_recipe as recipe
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.translate import hub
from deepseek_proxy.translate.hub import Chunk, Literal, Stage, ToolCallDelta
from deepseek_proxy.translate.markup import Healer

TOOLS = frozenset({"f", "shell"})
MAX_BYTES = 10_000


def healer(mode="recover", declared=TOOLS, max_markup_bytes=MAX_BYTES):
    numbers = count()
    return Healer(mode, declared, max_markup_bytes, lambda: f"call_{next(numbers)}")


def markup(*calls, pipes="｜", flash=True, outer=True):
    """The calls, each (name, {parameter: value}), as the models write them."""
    tag, gap = f"{pipes}DSML{pipes}", " " if flash else ""
    lines = []
    for name, arguments in calls:
        lines.append(f'<{tag}{gap}invoke name="{name}">')
        for key, value in arguments.items():
            quoted = isinstance(value, str)
            shown = value if quoted else json.dumps(value)
            flag = str(quoted).lower()
            lines.append(f'<{tag}{gap}parameter name="{key}" string="{flag}">{shown}</{tag}{gap}parameter>')
        lines.append(f"</{tag}{gap}invoke>")
    if outer:
        block = " calls" if flash else "tool_calls"
        lines = [f"<{tag}{block}>", *lines, f"</{tag}{block}>"]
    return "\n".join(lines)


def pieces_of(text, cuts):
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(edges)]


def as_delta(text):
    """How `hub.ChunkParser` would hand it over."""
    literal = orjson.dumps(text)
    return Chunk(content=text) if b"<" in literal or b"\\u" in literal else Literal(Stage.CONTENT, literal)


def text_of(deltas):
    parts = []
    for delta in deltas:
        parts.append(orjson.loads(delta.json) if isinstance(delta, Literal) else delta.content)
    return "".join(parts)


def calls_of(deltas):
    return [call for delta in deltas if isinstance(delta, Chunk) for call in delta.tool_calls]


def heal(pieces, finish_reason="stop", **options):
    """(text, calls, the finish reason, healed) for an answer that comes in these pieces."""
    subject = healer(**options)
    deltas = [out for piece in pieces for out in subject.feed(as_delta(piece))]
    deltas += subject.feed(Chunk(finish_reason=finish_reason))
    assert list(subject.finish()) == []
    return text_of(deltas), calls_of(deltas), deltas[-1].finish_reason, subject.healed


def heal_whole(text, **options):
    """`heal()`, and proof that no split changes it."""
    healed = heal([text], **options)
    for size in (1, 2, 3, 7, 50):
        assert heal([text[i : i + size] for i in range(0, len(text), size)], **options) == healed
    return healed


CALL = ("f", {"path": "a.py", "lines": [1, 2], "deep": {"x": None}})
ARGUMENTS = '{"path": "a.py", "lines": [1, 2], "deep": {"x": null}}'


# -- recovering -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipes", ["｜", "|", "‖", "｜｜", "||"])
@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("outer", [True, False])
def test_every_spelling_becomes_a_call(pipes, flash, outer):
    leaked = "Reading.\n\n" + markup(CALL, pipes=pipes, flash=flash, outer=outer)
    call = ToolCallDelta(0, "call_0", "f", ARGUMENTS)
    assert heal_whole(leaked) == ("Reading.\n\n", [call], "tool_calls", 1)


def test_several_calls_keep_their_order():
    leaked = markup(("f", {}), ("shell", {"cmd": "ls"})) + "\n" + markup(("f", {"a": True}), flash=False)
    text, calls, reason, healed = heal_whole(leaked)
    assert (text, reason, healed) == ("", "tool_calls", 3)
    assert calls == [
        ToolCallDelta(0, "call_0", "f", "{}"),
        ToolCallDelta(1, "call_1", "shell", '{"cmd": "ls"}'),
        ToolCallDelta(2, "call_2", "f", '{"a": true}'),
    ]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = TEXTS | st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"<>'), min_size=1, max_size=12
)
CALLS = st.lists(
    st.tuples(st.sampled_from(sorted(TOOLS)), st.dictionaries(NAMES, VALUES, max_size=3)),
    min_size=1,
    max_size=3,
)


@given(
    CALLS,
    st.booleans(),
    st.sampled_from(["｜", "|", "‖"]),
    TEXTS,
    TEXTS,
    st.lists(st.integers(0), max_size=20),
)
def test_values_survive_the_markup_at_any_split(calls, flash, pipes, before, after, cuts):
    leaked = before + markup(*calls, flash=flash, pipes=pipes) + after
    text, recovered, reason, healed = heal(pieces_of(leaked, cuts))
    assert [(call.name, json.loads(call.arguments)) for call in recovered] == calls
    assert text == ("" if not before.strip() else before) + after.lstrip()
    assert (reason, healed) == ("tool_calls", len(calls))


def deepseek_arguments(leaked):
    """What DeepSeek's own parser makes of the markup."""
    options = recipe.ConversionOptions().with_model_alias("m", recipe.ModelVersion.DeepseekV41Flash)
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
        for name in sorted(TOOLS)
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools}
    request = recipe.ChatCompletionRequest({**body, "thinking": {"type": "disabled"}}).convert(options)
    generator = recipe.ChatCompletionRequest.chunk_generator(request, "id", "m")
    stream = recipe.StreamProcessor(generator, request.parsing_options)
    usage = recipe.PromptUsage(prompt_tokens=1, prompt_cache_hit_tokens=0)
    chunks = stream.push(recipe.InferenceChunk.ready(system_fingerprint="fp", prompt_usage=usage))
    chunks += stream.push(recipe.InferenceChunk.text(leaked, 1))
    if not stream.finished:
        chunks += stream.push(recipe.InferenceChunk.finish(recipe.InferenceFinishReason.Stop))
    calls = {}
    for chunk in chunks + stream.finish():
        for call in json.loads(chunk.to_json())["choices"][0]["delta"].get("tool_calls", []):
            name, arguments = calls.get(call["index"], ("", ""))
            function = call["function"]
            calls[call["index"]] = (
                name + function.get("name", ""),
                arguments + function.get("arguments", ""),
            )
    return [calls[index] for index in sorted(calls)]


PLAIN_NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(TOOLS)), st.dictionaries(PLAIN_NAMES, VALUES, max_size=3)),
        min_size=1,
    )
)
def test_the_arguments_are_those_that_deepseek_builds(calls):
    leaked = "\n\n" + markup(*calls)
    recovered = heal([leaked])[1]
    assert [(call.name, call.arguments) for call in recovered] == deepseek_arguments(leaked)


@pytest.mark.parametrize("value", ["not json", "", "NaN", "{'a': 1}", "[1,"])
def test_a_value_that_is_no_json_becomes_a_string(value):
    leaked = markup(("f", {"a": 0})).replace(">0<", f">{value}<")
    ((_, (call,), _, _)) = heal_whole(leaked)
    assert json.loads(call.arguments) == {"a": value}


def test_only_the_finish_reason_of_a_plain_end_changes():
    assert heal([markup(CALL)], finish_reason="length")[2] == "length"
    assert heal(["Hello."])[2] == "stop"


# -- text is never lost -----------------------------------------------------------------------------


@given(TEXTS, st.lists(st.integers(0), max_size=5))
def test_text_without_markup_is_never_altered(text, cuts):
    assert heal(pieces_of(text, cuts)) == (text, [], "stop", 0)


BEGINNINGS = ["<", "</", "<｜", "<｜DSML", "<｜DSML｜", '<｜DSML｜invoke name="']
ENDINGS = [" calls>", "tool_calls>", 'invoke name="f">', ">", "\n", "  ", "x", "é😀"]
WHOLE_TAGS = [
    "<｜DSML｜ calls>",
    '<｜DSML｜invoke name="f">',
    '<｜DSML｜invoke name="other">',
    '<｜DSML｜parameter name="a" string="true">',
    "</｜DSML｜parameter>",
    "</｜DSML｜invoke>",
    "</｜DSML｜ calls>",
    "</think>",
]
SCRAPS = st.sampled_from([*BEGINNINGS, *ENDINGS, *WHOLE_TAGS])


@given(st.lists(SCRAPS, max_size=25).map("".join), st.lists(st.integers(0), max_size=30))
def test_any_split_of_any_scraps_heals_alike(text, cuts):
    assert heal(pieces_of(text, cuts)) == heal([text])


@given(st.lists(SCRAPS, max_size=25).map("".join))
def test_scraps_lose_nothing_where_nothing_was_healed(text):
    said, calls, _, healed = heal([text], declared=frozenset())
    assert calls == []
    assert (
        said == text
        if not healed
        else text.replace("</think>", "").strip() == said.replace("</think>", "").strip()
    )


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c<d: print('<div>') </think>",
        "Use `<｜DSML｜tool_calls>` to open and `</｜DSML｜tool_calls>` to close.",
        "<｜DSML｜ calls>\n</｜DSML｜ calls>",
        "<｜DSML｜ calls> then text",
        '<｜DSML｜parameter name="a" string="true">x</｜DSML｜parameter>',
        "</｜DSML｜ invoke>",
        "  \n",
        "text <｜DSM",
        "text <",
    ],
)
def test_talk_of_markup_is_text(text):
    assert heal_whole(text) == (text, [], "stop", 0)


@pytest.mark.parametrize("declared", [frozenset(), frozenset({"other"})])
@pytest.mark.parametrize("mode", ["recover", "remove"])
def test_a_call_to_an_undeclared_tool_is_text(mode, declared):
    explained = f"Models write:\n```\n{markup(CALL)}\n```\nand so on."
    assert heal_whole(explained, mode=mode, declared=declared) == (explained, [], "stop", 0)


def test_an_unclosed_call_is_text():
    whole = "So:\n" + markup(CALL)
    for end in range(len("So:\n"), whole.index("</｜DSML｜ invoke>") + len("</｜DSML｜ invoke>") - 1):
        assert heal([whole[:end]]) == (whole[:end], [], "stop", 0)
        assert heal(list(whole[:end])) == (whole[:end], [], "stop", 0)


def test_complete_calls_of_an_unclosed_block_count():
    first, second = markup(("f", {}), CALL).split('<｜DSML｜ invoke name="f">\n<｜DSML｜ parameter')
    for ending in ("", "\n", "\n</｜DSML｜", "\n<"):
        assert heal_whole(first + ending)[:3] == ("", [ToolCallDelta(0, "call_0", "f", "{}")], "tool_calls")
    cut = '<｜DSML｜ invoke name="f">\n<｜DSML｜ parameter' + second[:40]
    assert heal_whole(first + cut)[:2] == (cut, [ToolCallDelta(0, "call_0", "f", "{}")])


def test_an_undeclared_call_after_a_declared_one_is_text():
    text, calls, _, healed = heal_whole(markup(("f", {}), ("other", {"a": "b"})))
    assert [call.name for call in calls] == ["f"]
    assert healed == 1
    assert text.startswith('<｜DSML｜ invoke name="other">')


def test_markup_beyond_the_bound_is_text_and_later_markup_is_found():
    long = markup(("f", {"a": "y" * MAX_BYTES}))
    text, calls, _, healed = heal_whole(long + "\n" + markup(CALL))
    assert text == long + "\n"
    assert calls == [ToolCallDelta(0, "call_0", "f", ARGUMENTS)]
    assert healed == 1


def test_endless_empty_parameters_are_bounded():
    subject = healer(max_markup_bytes=500)
    subject.feed(Chunk(content="<｜DSML｜ calls>" + '<｜DSML｜invoke name="f">'))
    parameter = '<｜DSML｜parameter name="a" string="true"></｜DSML｜parameter>'
    assert text_of(delta for _ in range(10) for delta in subject.feed(Chunk(content=parameter)))


# -- stray tags, white space, modes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "healed"),
    [
        ("</think>\n\nHello </think>", "Hello </think>", 1),
        ("\n </think></think> Hello", "Hello", 2),
        ("</think>", "", 1),
        ("Hello\n</think>", "Hello\n</think>", 0),
        ("\n\n Hello", "\n\n Hello", 0),
    ],
)
def test_a_stray_end_of_thinking_is_taken_out_at_the_start(answer, text, healed):
    assert heal_whole(answer) == (text, [], "stop", healed)


def test_white_space_around_calls_is_no_message():
    assert heal_whole("\n\n" + markup(CALL) + "\n\n")[0] == ""
    assert heal_whole("\n\n" + markup(CALL) + "\n\nDone.")[0] == "Done."


def test_endless_white_space_is_passed_on():
    subject = healer()
    assert text_of(delta for _ in range(300) for delta in subject.feed(as_delta("\n"))).strip("\n") == ""
    assert subject.feed(as_delta("\n")) == (as_delta("\n"),)


def test_remove_takes_calls_out():
    assert heal_whole("Hello.\n" + markup(CALL), mode="remove") == ("Hello.\n", [], "stop", 1)


def test_pass_changes_nothing():
    leaked = "</think>" + markup(CALL)
    assert heal_whole(leaked, mode="pass") == (leaked, [], "stop", 0)


# -- deltas -----------------------------------------------------------------------------------------


def test_plain_deltas_are_passed_on_themselves():
    subject = healer()
    for delta in (
        Chunk(announces_thinking=True),
        Literal(Stage.REASONING, b'" hm"'),
        Chunk(reasoning="</think> <｜DSML｜ calls>"),
        Literal(Stage.CONTENT, b'"Hello"'),
        Literal(Stage.CONTENT, b'" "'),
        Chunk(content="if a < b:"),
        Chunk(refusal="no"),
        Chunk(content="x", logprobs=({"token": "x"},)),
        Chunk(tool_calls=(ToolCallDelta(0, "c", "f", ""),)),
        Chunk(finish_reason="stop", usage=hub.Usage(1, 0, 1, 0)),
    ):
        (passed,) = subject.feed(delta)
        assert passed is delta
    assert list(subject.finish()) == []


def test_only_what_may_become_a_tag_is_kept_back():
    subject = healer()
    assert text_of(subject.feed(Chunk(content="a < b <"))) == "a < b "
    assert text_of(subject.feed(as_delta("｜DSML"))) == ""
    assert text_of(subject.feed(as_delta(" is it"))) == "<｜DSML is it"


def test_thinking_passes_while_text_is_kept_back():
    subject = healer()
    subject.feed(Chunk(content="text <"))
    thought = Literal(Stage.REASONING, b'"hm"')
    assert list(subject.feed(thought)) == [thought]


def test_what_is_kept_back_comes_before_what_follows():
    subject = healer()
    subject.feed(Chunk(content="text <"))
    call = ToolCallDelta(0, "c", "f", "{}")
    assert list(subject.feed(Chunk(tool_calls=(call,)))) == [Chunk(content="<"), Chunk(tool_calls=(call,))]
    subject.feed(Chunk(content="more <"))
    usage = hub.Usage(1, 0, 1, 0)
    ending = Chunk(finish_reason="stop", usage=usage)
    assert list(subject.feed(ending)) == [Chunk(content="<"), ending]


def test_a_stream_that_just_stops_gives_back_what_was_kept():
    subject = healer()
    subject.feed(Chunk(content="text <｜DSML｜ calls>\n"))
    assert text_of(subject.finish()) == "<｜DSML｜ calls>\n"


def test_recovered_calls_and_upstreams_own_do_not_share_a_position():
    subject = healer()
    leaked = Chunk(content=markup(("shell", {})))
    first = Chunk(tool_calls=(ToolCallDelta(0, "own_0", "f", ""),))
    out = [
        *subject.feed(first),
        *subject.feed(leaked),
        *subject.feed(Chunk(tool_calls=(ToolCallDelta(0, None, None, "{}"),))),
        *subject.feed(Chunk(tool_calls=(ToolCallDelta(1, "own_1", "f", "{}"),))),
        *subject.feed(leaked),
    ]
    assert [(call.position, call.id) for call in calls_of(out)] == [
        (0, "own_0"),
        (1, "call_0"),
        (0, None),
        (2, "own_1"),
        (3, "call_1"),
    ]


def test_a_whole_answer_in_one_chunk_is_healed_like_a_stream():
    usage = hub.Usage(10, 0, 5, 2)
    own = ToolCallDelta(0, "own", "f", "{}")
    whole = Chunk(
        reasoning="Let me see. </think>",
        content=f"Reading.\n{markup(CALL)}",
        tool_calls=(own,),
        finish_reason="stop",
        usage=usage,
    )
    assert list(healer().feed(whole)) == [
        Chunk(reasoning="Let me see. </think>"),
        Chunk(content="Reading.\n"),
        Chunk(tool_calls=(ToolCallDelta(0, "call_0", "f", ARGUMENTS),)),
        Chunk(tool_calls=(own._replace(position=1),), finish_reason="tool_calls", usage=usage),
    ]


def test_logprobs_stay_with_their_text():
    subject = healer()
    one, two = {"token": "a <"}, {"token": " b"}
    assert list(subject.feed(Chunk(content="a <", logprobs=(one,)))) == [Chunk(content="a ", logprobs=(one,))]
    assert list(subject.feed(Chunk(content=" b", logprobs=(two,)))) == [Chunk(content="< b", logprobs=(two,))]


def test_a_long_value_in_small_pieces_takes_linear_work():
    """A megabyte in four-character tokens: copying all of it for each token would not end."""
    subject = healer(max_markup_bytes=2_000_000)
    opening, closing = markup(("f", {"a": "|"})).split("|", 1)
    subject.feed(Chunk(content=opening))
    token = as_delta("abcd")
    for _ in range(250_000):
        assert subject.feed(token) == []
    (call,) = calls_of(subject.feed(Chunk(content=closing)))
    assert len(call.arguments) == len('{"a": ""}') + 1_000_000

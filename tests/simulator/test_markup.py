"""The markup is what DeepSeek's own parser turns back into the same calls."""

from __future__ import annotations

import json

import deepseek_recipe as recipe
import pytest

from deepseek_proxy.simulator import markup
from deepseek_proxy.simulator.turns import Call

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
MODELS = {"v4.1": recipe.ModelVersion.DeepseekV41Flash, "v4": recipe.ModelVersion.DeepseekV4Pro}


@pytest.mark.parametrize("style", markup.STYLES)
def test_the_parser_reads_it(style: str) -> None:
    calls = [Call("f", '{"a": "<x> & é", "n": [1, {"b": null}]}'), Call("g", "{}")]
    options = recipe.ConversionOptions().with_model_alias("m", MODELS[style])
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    request = recipe.ChatCompletionRequest(json.dumps(body)).convert(options)
    stream = recipe.StreamProcessor(
        recipe.ChatCompletionRequest.chunk_generator(request, "id", "m"), request.parsing_options
    )
    chunks = stream.push(recipe.InferenceChunk.ready())
    chunks += stream.push(recipe.InferenceChunk.text("</think>" + markup.of_calls(calls, style), 1))
    chunks += stream.finish() if stream.finished else []
    whole = recipe.ChatCompletionResponse("id", "m", 1, 1, 0)
    for chunk in chunks:
        whole.accumulate(chunk)
    said = json.loads(whole.to_json())["choices"][0]["message"]["tool_calls"]
    assert [Call(c["function"]["name"], c["function"]["arguments"]) for c in said] == calls


def test_arguments_that_are_no_object() -> None:
    text = markup.of_calls([Call("f", "{bad")], "v4")
    assert '<｜DSML｜parameter name="arguments" string="true">{bad</｜DSML｜parameter>' in text


def test_other_pipes() -> None:
    assert markup.of_calls([Call("f", "{}")], "v4", "|").splitlines()[2:4] == [
        "<|DSML|tool_calls>",
        '<|DSML|invoke name="f">',
    ]

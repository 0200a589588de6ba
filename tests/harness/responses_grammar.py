"""The grammar of a Responses event stream: a referee that knows nothing of the machine it judges.

`assert_responses_grammar(events)` takes the parsed events of one stream, `[DONE]` left out, and returns the
final Response. Sources: OpenAI's recorded streams, and what the SDKs' accumulators refuse.

 1. A stream is `response.created`, `response.in_progress`, items, one terminal event. Nothing follows.
    One that is made in the background says `response.queued` before it is in progress.
 2. `sequence_number` is 0, 1, 2, …; every event type is one that the official SDKs know.
 3. Every lifecycle event carries the whole Response, always with the same id, model and created_at.
 4. A repeated `response.in_progress` carries the items announced so far, in their present state.
 5. `output_index` is dense and the position in `output`; ids are unique and have the prefix of their type;
    added and done have the same identity. Only calls may be open beside one another.
 6. Parts come one after another inside an item; deltas are never empty and hit a part of their own type;
    `*.done` repeats what the deltas said, and so do the closed part, the closed item and the terminal event.
    Annotations come in order between a text's last delta and its done event, and lie within the text.
    A web search is in progress, searching, and completed unless it failed.
 7. `output` is the closed items in order. Only a failed response leaves items open.
 8. `completed` has complete items, `completed_at` and usage. `incomplete` has a reason and no
    `completed_at`; only its last item is incomplete. `failed` has an error, after an `error` event that says
    the same; no other stream has an `error` event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Event = Mapping[str, Any]

NEVER_NULL: Final = frozenset(
    {
        *("background", "created_at", "frequency_penalty", "id", "metadata", "model", "object", "output"),
        *(
            "parallel_tool_calls",
            "presence_penalty",
            "service_tier",
            "status",
            "store",
            "temperature",
            "text",
        ),
        *("tool_choice", "tools", "top_logprobs", "top_p", "truncation"),
    }
)
RESPONSE_KEYS: Final = NEVER_NULL | {
    *("completed_at", "error", "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls"),
    *("moderation", "previous_response_id", "prompt_cache_key", "prompt_cache_retention", "reasoning"),
    *("safety_identifier", "usage", "user"),
}
ABSENT_WHEN_UNUSED: Final = ("phase", "encrypted_content", "namespace")
ID_PREFIXES: Final = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "local_shell_call": "lsh_",
    "shell_call": "sh_",
    "apply_patch_call": "apc_",
    "tool_search_call": "tsc_",
    "web_search_call": "ws_",
    "compaction": "cmp_",
}
WITHOUT_STATUS: Final = frozenset({"reasoning", "compaction"})
SEARCH_STAGES: Final = ("in_progress", "searching", "completed")
ONE_AT_A_TIME: Final = frozenset({"message", "reasoning"})
TERMINAL: Final = ("response.completed", "response.incomplete", "response.failed")


class TextFamily(NamedTuple):
    """Events of text inside a part: whose parts, which list and index, the part's type and text key."""

    item_type: str
    parts: str
    position: str
    part_type: str
    key: str


class CallFamily(NamedTuple):
    """Events of a call's own text: whose, and under which key."""

    item_type: str
    key: str


TEXTS: Final = {
    "output_text": TextFamily("message", "content", "content_index", "output_text", "text"),
    "refusal": TextFamily("message", "content", "content_index", "refusal", "refusal"),
    "reasoning_text": TextFamily("reasoning", "content", "content_index", "reasoning_text", "text"),
    "reasoning_summary_text": TextFamily("reasoning", "summary", "summary_index", "summary_text", "text"),
    # Open Responses' own name; the OpenAI SDK for Node refuses it, so it is there only by setting.
    "reasoning": TextFamily("reasoning", "content", "content_index", "reasoning_text", "text"),
}
CALLS: Final = {
    "function_call_arguments": CallFamily("function_call", "arguments"),
    "custom_tool_call_input": CallFamily("custom_tool_call", "input"),
}
PARTS: Final = {
    "content_part": ("content", "content_index"),
    "reasoning_summary_part": ("summary", "summary_index"),
}


def assert_responses_grammar(events: Iterable[Event]) -> Mapping[str, Any]:
    """Judges one whole stream; returns the Response of its terminal event."""
    judge = _StreamJudge()
    for event in events:
        judge.see(event)
    assert judge.final is not None, f"no terminal event among {judge.seen}"
    return judge.final


def assert_usage(usage: Mapping[str, Any]) -> None:
    """The usage block: every count an int, the sum right, no part larger than its whole."""
    inputs, outputs = usage["input_tokens"], usage["output_tokens"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    thought = usage["output_tokens_details"]["reasoning_tokens"]
    counts = (inputs, outputs, cached, thought, usage["input_tokens_details"]["cache_write_tokens"])
    assert all(type(count) is int and count >= 0 for count in counts)
    assert cached <= inputs
    assert thought <= outputs
    assert usage["total_tokens"] == inputs + outputs


@dataclass
class _ItemJudge:
    """One open item: what its events have said so far."""

    added: Mapping[str, Any]
    parts: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"content": [], "summary": []})
    part_open: bool = False
    text_done: bool = False
    text: str = ""
    deltas: int = 0
    search_stages: list[str] = field(default_factory=list)

    def see(self, kind: str, event: Event) -> None:
        family, _, stage = kind.rpartition(".")
        if family in PARTS:
            self._part(family, stage, event)
        elif family in CALLS:
            self._call(family, stage, event)
        elif family == "web_search_call":
            self._search(stage)
        elif kind == "output_text.annotation.added":
            self._annotation(event)
        else:
            assert family in TEXTS, f"unknown event {event['type']}"
            self._text(family, stage, event)

    def assert_state(self, shown: Mapping[str, Any]) -> None:
        """`shown` is this item as it is now."""
        for name, parts in self.parts.items():
            if parts or shown.get(name):
                assert shown[name] == parts, f"the item's {name} is not what was streamed"
        if shown["type"] == "compaction":
            assert shown == self.added, "a compaction is whole from the start"
        for family in CALLS.values():
            if shown["type"] == family.item_type:
                assert shown[family.key] == self.text, f"the item's {family.key} is not what was streamed"

    def assert_closable(self, status: str | None) -> None:
        assert not self.part_open, "an item ends inside a part"
        if self.added["type"] in {family.item_type for family in CALLS.values()}:
            assert self.text_done, "a call ends without the done event of its text"
            if status == "completed" and self.added["type"] == "function_call":
                assert self.deltas, "a call without a single delta"
        if self.added["type"] == "web_search_call":
            stages = SEARCH_STAGES if status == "completed" else SEARCH_STAGES[:2]
            assert (*self.search_stages,) == stages, f"a search that is {status} went through other stages"

    def _search(self, stage: str) -> None:
        assert self.added["type"] == "web_search_call"
        self.search_stages.append(stage)

    def _annotation(self, event: Event) -> None:
        assert self.part_open, "an annotation outside of a part"
        assert not self.text_done, "an annotation after its text"
        part = self.parts["content"][-1]
        assert part["type"] == "output_text"
        assert event["content_index"] == len(self.parts["content"]) - 1
        assert event["annotation_index"] == len(part["annotations"])
        annotation = event["annotation"]
        assert 0 <= annotation["start_index"] < annotation["end_index"] <= len(part["text"])
        part["annotations"] = [*part["annotations"], annotation]

    def _part(self, family: str, stage: str, event: Event) -> None:
        name, index = PARTS[family]
        parts, part = self.parts[name], event["part"]
        if stage == "added":
            assert not self.part_open, "a part begins inside another one"
            assert event[index] == len(parts)
            assert part["refusal" if part["type"] == "refusal" else "text"] == "", "a part begins with text"
            parts.append(dict(part))
            self.part_open, self.text_done = True, False
        else:
            assert stage == "done"
            assert self.part_open, "a part ends that was not begun"
            assert event[index] == len(parts) - 1
            assert self.text_done, "a part ends without the done event of its text"
            assert part == parts[-1], "the closed part is not what was streamed"
            self.part_open = False

    def _text(self, family: str, stage: str, event: Event) -> None:
        item_type, name, index, part_type, key = TEXTS[family]
        assert self.added["type"] == item_type, f"{family} in a {self.added['type']}"
        assert self.part_open, f"{family} outside of a part"
        assert self.parts[name], f"{family} in a part of another list"
        part = self.parts[name][-1]
        assert part["type"] == part_type, f"{family} in a part of type {part['type']}"
        assert event[index] == len(self.parts[name]) - 1
        assert not self.text_done, f"{family}.{stage} after its done event"
        if stage == "delta":
            assert event["delta"], "an empty delta"
            assert not part.get("annotations"), "text after its annotations"
            part[key] += event["delta"]
            if family == "output_text":
                part["logprobs"] = [*part["logprobs"], *event["logprobs"]]
        else:
            assert stage == "done"
            assert event[key] == part[key], f"{family}.done is not what was streamed"
            assert family != "output_text" or event["logprobs"] == part["logprobs"]
            self.text_done = True

    def _call(self, family: str, stage: str, event: Event) -> None:
        assert self.added["type"] == CALLS[family].item_type
        assert not self.text_done, f"{family}.{stage} after its done event"
        if stage == "delta":
            assert event["delta"], "an empty delta"
            self.text += event["delta"]
            self.deltas += 1
        else:
            assert stage == "done"
            assert event[CALLS[family].key] == self.text, f"{family}.done is not what was streamed"
            self.text_done = True


@dataclass
class _StreamJudge:
    """One stream; `see` takes the events in order."""

    seen: int = 0
    response: Mapping[str, Any] = field(default_factory=dict)
    announced: list[Mapping[str, Any]] = field(default_factory=list)
    open: dict[int, _ItemJudge] = field(default_factory=dict)
    closed: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    error: Event | None = None
    final: Mapping[str, Any] | None = None

    def see(self, event: Event) -> None:
        kind = event["type"]
        assert self.final is None, f"{kind} after the terminal event"
        assert self.error is None or kind == "response.failed", f"{kind} after an error event"
        assert event["sequence_number"] == self.seen, f"{kind} is {event['sequence_number']}, not {self.seen}"
        expected = self._expected(kind)
        assert kind == expected, f"event {self.seen} is {kind}, not {expected}"
        self.seen += 1
        if kind == "error":
            self._failing(event)
        elif kind in ("response.created", "response.queued", "response.in_progress"):
            assert kind != "response.queued" or self.seen == 2, "response.queued in mid-stream"
            self._alive(event)
        elif kind in TERMINAL:
            self._terminal(event)
        elif kind == "response.output_item.added":
            self._added(event)
        elif kind == "response.output_item.done":
            self._done(event)
        else:
            self._inside(event)

    def _expected(self, kind: str) -> str:
        if self.seen == 0:
            return "response.created"
        queued = self.response["status"] == "queued"
        if self.seen == 1:
            return "response.queued" if queued else "response.in_progress"
        return "response.in_progress" if self.seen == 2 and queued and kind != "error" else kind

    # -- the response

    def _alive(self, event: Event) -> None:
        response = event["response"]
        if event["type"] == "response.created":
            assert self.seen == 1, "response.created in mid-stream"
            self.response = response
        self._same_response(response)
        opening = self.response["status"] if self.seen <= 2 else "in_progress"
        assert response["status"] == opening in ("queued", "in_progress")
        assert response["usage"] is None
        assert response["error"] is None
        output = response["output"]
        assert [*map(_identity, output)] == [*map(_identity, self.announced)], "a snapshot of other items"
        for index, shown in enumerate(output):
            if index in self.closed:
                assert shown == self.closed[index], "the snapshot of a closed item differs from it"
            else:
                self.open[index].assert_state(shown)

    def _same_response(self, response: Mapping[str, Any]) -> None:
        missing = RESPONSE_KEYS - response.keys()
        assert not missing, f"the response lacks {sorted(missing)}"
        nulls = [key for key in sorted(NEVER_NULL) if response[key] is None]
        assert not nulls, f"null in {nulls}"
        assert response["object"] == "response"
        assert response["id"].startswith("resp_")
        assert type(response["created_at"]) is int
        for key in ("id", "created_at", "model"):
            assert response[key] == self.response[key], f"{key} of the response changed"

    def _terminal(self, event: Event) -> None:
        response = event["response"]
        status = event["type"].removeprefix("response.")
        self._same_response(response)
        assert response["status"] == status
        assert response["output"] == [self.closed[i] for i in sorted(self.closed)], (
            "output is not the closed items"
        )
        assert (self.error is not None) == (status == "failed"), (
            "error goes with response.failed and only with it"
        )
        assert (response["error"] is not None) == (status == "failed")
        assert (response["incomplete_details"] is not None) == (status == "incomplete")
        if status == "failed" and self.error is not None:
            assert response["error"]["code"] == self.error["code"]
            assert response["error"]["message"] == self.error["message"]
        else:
            assert not self.open, f"items {sorted(self.open)} are still open"
            _assert_states(status, response["output"])
        if status == "completed":
            assert type(response["completed_at"]) is int
        else:
            assert response["completed_at"] is None
        if status == "incomplete":
            assert response["incomplete_details"]["reason"] in ("max_output_tokens", "content_filter")
        if status == "completed" or response["usage"] is not None:
            assert_usage(response["usage"])
        self.final = response

    def _failing(self, event: Event) -> None:
        assert self.seen > 2, "an error before the stream began"
        for key in ("code", "message", "param"):
            assert event[key] == event["error"][key], f"the two forms of the error differ in {key}"
        assert event["error"]["type"]
        assert event["message"]
        self.error = event

    # -- items

    def _added(self, event: Event) -> None:
        item = event["item"]
        beside = [item["type"], *(other.added["type"] for other in self.open.values())]
        assert len(beside) == 1 or not ONE_AT_A_TIME & {*beside}, "an item begins inside another one"
        assert event["output_index"] == len(self.announced), "output_index is not dense"
        assert item["id"] not in {known["id"] for known in self.announced}, f"{item['id']} is used twice"
        _assert_well_formed(item)
        if item["type"] == "message":
            assert item["content"] == []
            assert item["role"] == "assistant"
        elif item["type"] == "reasoning":
            assert item["summary"] == []
        elif item["type"] == "web_search_call":
            assert item["action"]["type"] in ("search", "open_page")
        elif item["type"] != "compaction":
            assert 0 < len(item["call_id"]) <= 64
        assert item["type"] in WITHOUT_STATUS or item["status"] == "in_progress"
        self.open[len(self.announced)] = _ItemJudge(item)
        self.announced.append(item)

    def _done(self, event: Event) -> None:
        item, index = event["item"], event["output_index"]
        assert index in self.open, f"item {index} ends and is not open"
        judge = self.open.pop(index)
        assert _identity(item) == _identity(judge.added), "the item's identity changed"
        _assert_well_formed(item)
        judge.assert_closable(item.get("status"))
        judge.assert_state(item)
        failed = {"failed"} if item["type"] == "web_search_call" else set()
        assert item["type"] in WITHOUT_STATUS or item["status"] in {"completed", "incomplete"} | failed
        self.closed[index] = item

    def _inside(self, event: Event) -> None:
        kind = event["type"].removeprefix("response.")
        item = self.open.get(event["output_index"])
        assert item is not None, f"{kind} outside of an item"
        assert event["item_id"] == item.added["id"], f"{kind} names another item"
        item.see(kind, event)


def _assert_well_formed(item: Mapping[str, Any]) -> None:
    prefix = ID_PREFIXES[item["type"]]
    assert item["id"].startswith(prefix)
    assert len(item["id"]) > len(prefix)
    for key in ABSENT_WHEN_UNUSED:
        assert key not in item or item[key], f"{key} is there without a value"
    assert item["type"] not in WITHOUT_STATUS or "status" not in item
    if item["type"] == "reasoning":
        assert isinstance(item["summary"], list)
    if item["type"] == "compaction":
        assert item["encrypted_content"], "a compaction that holds nothing"


def _assert_states(status: str, output: Sequence[Mapping[str, Any]]) -> None:
    states = [item.get("status", "completed") for item in output if item["type"] != "web_search_call"]
    allowed = {"completed"} if status == "completed" else {"completed", "incomplete"}
    assert set(states) <= allowed, f"the items of a response that is {status} are {states}"
    assert "incomplete" not in states[:-1], "an incomplete item that is not the last one"


def _identity(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in ("type", "id", "call_id", "name"))

"""The simulator's own routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Ask = Callable[..., TestResponse]
Said = Callable[..., dict[str, Any]]


def test_script(client: FlaskClient, said: Said) -> None:
    turns = [{"reasoning": "Hm.", "text": "Scripted"}, {"match": "never", "text": "x"}]
    assert client.post("/_simulator/script", json=turns).get_json() == {"waiting": 2}
    assert said("hi") == {"role": "assistant", "content": "Scripted", "reasoning_content": "Hm."}
    assert client.get("/_simulator/script").get_json() == {"waiting": 1}
    assert said("say hello")["content"] == "hello"
    assert client.delete("/_simulator/script").get_json() == {"waiting": 0}


def test_a_script_keeps_the_rules_of_the_mode(client: FlaskClient, said: Said) -> None:
    client.post("/_simulator/script", json=[{"reasoning": "Hm.", "text": "x"}])
    assert "reasoning_content" not in said("hi", thinking={"type": "disabled"})


def test_a_script_with_a_fault(client: FlaskClient, ask: Ask) -> None:
    client.post("/_simulator/script", json=[{"fault": "503"}, {"text": "ok"}])
    assert [ask("hi").status_code for _ in range(2)] == [503, 200]


def test_a_bad_script_is_refused(client: FlaskClient) -> None:
    answer = client.post("/_simulator/script", json=[{"txt": "x"}])
    assert answer.status_code == 400
    assert "turns[0] has an unknown key 'txt'" in answer.get_json()["error"]["message"]


def test_requests(client: FlaskClient, ask: Ask) -> None:
    ask("hi", headers={"Cookie": "a=b", "X-Request-ID": "r-1"})
    ask([], model="deepseek-flash")
    client.get("/nowhere", data="not json")
    body = client.get("/_simulator/requests").get_json()
    assert body["active"] == 0
    first, second, third = body["requests"]
    assert (first["number"], first["method"], first["path"]) == (1, "POST", "/chat/completions")
    assert first["body"]["messages"] == [{"role": "user", "content": "hi"}]
    assert (first["status"], first["outcome"], first["key"]) == (200, "complete", "****0001")
    assert first["headers"]["X-Request-Id"] == "r-1"
    assert not {"Authorization", "Cookie"} & set(first["headers"])
    assert "sk-simulator" not in str(body)
    assert (second["status"], second["outcome"]) == (400, "refused")
    assert (third["status"], third["body"]) == (404, "not json")


def test_as_many_requests_as_are_wanted(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_recorded=2)
    for path in ("/a", "/b", "/c"):
        client.get(path)
    assert [r["path"] for r in client.get("/_simulator/requests").get_json()["requests"]] == ["/b", "/c"]


def test_a_fault_that_stays(client: FlaskClient, ask: Ask) -> None:
    assert client.put("/_simulator/fault", json={"fault": "503 times=2"}).get_json() == {
        "fault": "503 times=2"
    }
    assert [ask(prompt).status_code for prompt in "abc"] == [503, 503, 200]
    client.put("/_simulator/fault", json={"fault": "402"})
    assert [ask(prompt).status_code for prompt in "ab"] == [402, 402]
    client.put("/_simulator/fault", json={"fault": ""})
    assert ask("a").status_code == 200


@pytest.mark.parametrize("body", [{"fault": "999"}, {"fault": 3}, {}, []])
def test_a_bad_fault_is_refused(body: Any, client: FlaskClient) -> None:
    assert client.put("/_simulator/fault", json=body).status_code == 400


def test_reset(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(fault="503 times=1")
    asked = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "x" * 2000}]}

    def ask() -> TestResponse:
        return client.post("/chat/completions", json=asked, headers={"Authorization": "Bearer sk-x"})

    for _ in range(2):
        client.post("/_simulator/script", json=[{"text": "left over", "match": "never"}])
        client.put("/_simulator/fault", json={"fault": "503 times=1"})
        assert ask().status_code == 503
        assert ask().get_json()["usage"]["prompt_cache_hit_tokens"] == 0
        assert ask().get_json()["usage"]["prompt_cache_hit_tokens"] > 0
        assert client.post("/_simulator/reset").get_json() == {}
        assert client.get("/_simulator/requests").get_json() == {"requests": [], "active": 0}
        assert client.get("/_simulator/script").get_json() == {"waiting": 0}


def test_only_for_this_machine(client: FlaskClient) -> None:
    from_afar = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/_simulator/requests", environ_base=from_afar).status_code == 404
    assert client.get("/models", environ_base=from_afar).status_code == 401, (
        "DeepSeek's own routes are for all"
    )

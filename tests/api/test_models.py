"""The model routes: one body for OpenAI's SDKs and for Codex, and no model that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy.models import ALIASES, MODELS

Make = Callable[..., Any]
"""Of `conftest`."""

NAMES = ["deepseek-chat", "deepseek-v3", "deepseek-reasoner", "deepseek-r1"]
NAMES += [f"{name}-search" for name in NAMES]


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/v1/models/", "/v1/models?client_version=0.169.0"]
)
def test_the_list_is_for_everybody(make: Make, path: str) -> None:
    response = make().request("GET", path)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json["object"] == "list"
    assert [model["id"] for model in response.json["data"]] == [*MODELS, *NAMES]
    assert [model["slug"] for model in response.json["models"]] == list(MODELS)


@pytest.mark.parametrize(
    ("version", "knows_max"), [("0.130.0", False), ("0.142.0", True), ("0.169.0", True), ("", True)]
)
def test_an_old_codex_gets_no_effort_that_it_does_not_know(make: Make, version: str, knows_max: bool) -> None:
    """It would reject the whole list."""
    for model in make().request("GET", f"/v1/models?client_version={version}").json["models"]:
        efforts = [level["effort"] for level in model["supported_reasoning_levels"]]
        assert efforts == ["none", "low", "high", *(["max"] if knows_max else [])]


def test_the_operators_names_are_in_the_list(make: Make) -> None:
    aliases = {"fast": "deepseek-flash", "thorough": "deepseek-r1"}
    ids = [model["id"] for model in make(model_aliases=aliases).request("GET", "/v1/models").json["data"]]
    assert ids == [*MODELS, *NAMES, *aliases]


def test_who_has_the_list_is_told_so(make: Make) -> None:
    face = make()
    first = face.request("GET", "/v1/models")
    tag = first.headers["ETag"]
    again = face.request("GET", "/v1/models", headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    other = face.request("GET", "/v1/models", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.data) == (200, first.data)


def test_the_tag_changes_with_the_list(make: Make) -> None:
    tags = [
        make(model_aliases=aliases).request("GET", "/v1/models").headers["ETag"]
        for aliases in ({}, {"fast": "deepseek-flash"})
    ]
    assert tags[0] != tags[1]


@pytest.mark.parametrize("name", [*MODELS, *ALIASES, *NAMES, "deepseek-v4-pro-search"])
@pytest.mark.parametrize("prefix", ["/v1/models/", "/models/"])
def test_one_model_by_any_of_its_names(make: Make, prefix: str, name: str) -> None:
    model = make().request("GET", prefix + name).json
    assert (model["id"], model["object"], model["owned_by"]) == (name, "model", "deepseek")


def test_one_model_by_the_operators_name(make: Make) -> None:
    face = make(model_aliases={"team/fast": "deepseek-v4-pro"})
    model = face.request("GET", "/v1/models/team/fast").json
    assert (model["id"], model["name"]) == ("team/fast", MODELS["deepseek-v4-pro"].display_name)


@pytest.mark.parametrize("name", ["gpt-5", "deepseek", "a/b", "%F0%9F%90%8B", "x" * 500])
def test_a_name_that_is_only_mapped_is_no_model(make: Make, name: str) -> None:
    response = make(unknown_models="map").request("GET", f"/v1/models/{name}")
    error = response.json["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert len(error["message"]) < 300


def test_the_lines_say_models(make: Make) -> None:
    face = make()
    face.request("GET", "/v1/models").close()
    face.request("GET", "/v1/models/gpt-5").close()
    assert [(line["dialect"], line["status"]) for line in face.lines()] == [("models", 200), ("models", 404)]


def test_a_client_sees_the_models_that_its_key_is_for(make: Make) -> None:
    key = "the-key-of-alice-01"
    client = {"key": key, "models": ["deepseek-flash", "mine"]}
    face = make(keys=[client], model_aliases={"mine": "deepseek-v4-pro", "other": "deepseek-v4-pro"})
    headers = {"Authorization": f"Bearer {key}"}
    listed = face.request("GET", "/v1/models", headers=headers).json
    assert [model["id"] for model in listed["data"]] == ["deepseek-flash", *NAMES, "mine"]
    assert face.request("GET", "/v1/models/mine", headers=headers).status_code == 200
    for name in ("other", "deepseek-v4-pro"):
        assert face.request("GET", f"/v1/models/{name}", headers=headers).status_code == 404

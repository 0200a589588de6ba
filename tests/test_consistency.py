"""What settings must say together: each check alone; when it is made is tested with the settings."""

from __future__ import annotations

import pytest

from deepseek_proxy import consistency
from deepseek_proxy.credentials import ClientKey

ALICE = ClientKey.model_validate({"key": "the-key-of-alice-01", "models": ["mine", "deepseek-chat"]})
BOB = ClientKey.model_validate({"key": "sk-the-key-of-bob-0001", "models": ["gpt-5"]})


def test_names_of_models() -> None:
    aliases = {"mine": "deepseek-v4-pro"}
    assert list(consistency.unknown_models("mine", aliases, [ALICE])) == []
    assert list(consistency.unknown_models("mine", aliases, [ALICE, BOB])) == [
        "keys[1].models: 'gpt-5' is not a model"
    ]
    (line,) = consistency.unknown_models("gpt-5", aliases, [])
    assert line.startswith("default_model, model_aliases: 'gpt-5' is not a model")


def test_keys_that_look_like_deepseeks() -> None:
    (line,) = consistency.keys_like_deepseeks([ALICE, BOB])
    assert line.startswith("keys[1].key: ")
    assert "the-key-of" not in line


def test_pages() -> None:
    assert list(consistency.open_to_all_pages(["https://app.example"])) == []
    assert len(list(consistency.open_to_all_pages(["https://app.example", "*"]))) == 1


def test_networks() -> None:
    def told(host: str, serverless: bool = False) -> list[str]:
        return list(consistency.open_to_the_network(host, serverless=serverless, variable="MEANT"))

    assert told("127.0.0.1") == []
    (line,) = told("0.0.0.0")
    assert line.startswith("host: everybody who reaches 0.0.0.0")
    assert "MEANT=true" in line
    (line,) = told("127.0.0.1", serverless=True)
    assert line.startswith("everybody who knows the address of this deployment")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_what_can_only_mean_this_machine(host: str | None, local: bool) -> None:
    assert consistency.is_loopback(host) is local

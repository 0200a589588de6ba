"""Whose key a request uses, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from deepseek_proxy.api import auth
from deepseek_proxy.api.gateway import OWN_TENANT, Caller, tenant_of
from deepseek_proxy.errors import Unauthenticated
from deepseek_proxy.settings import isolated

OWN = {"deepseek_api_key": "sk-own"}
ADMIN = {"admin_key": "0123456789abcdef0123"}


def request(authorization: str | None) -> Request:
    headers = {} if authorization is None else {"Authorization": authorization}
    return Request(EnvironBuilder(headers=headers).get_environ())


def identify(authorization: str | None, **settings: Any) -> Caller:
    return auth.identify(request(authorization), isolated(**settings))


@pytest.mark.parametrize("sent", ["Bearer sk-client", "bearer sk-client", "BEARER   sk-client  "])
@pytest.mark.parametrize("settings", [{}, OWN])
def test_the_clients_own_key_comes_first(sent: str, settings: dict[str, Any]) -> None:
    assert identify(sent, **settings) == Caller("sk-client", tenant_of("sk-client"))


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Bearer gateway", "Basic c2stY2xpZW50"])
def test_without_one_the_gateways_is_used_for_all_alike(sent: str | None) -> None:
    assert identify(sent, **OWN) == Caller("sk-own", OWN_TENANT)


@pytest.mark.parametrize("sent", [None, "Bearer ", "Bearer gateway", "Basic c2stY2xpZW50"])
def test_without_any_it_says_what_to_set(sent: str | None) -> None:
    with pytest.raises(Unauthenticated, match=r"Authorization: Bearer.*DEEPSEEK_API_KEY"):
        identify(sent)


@pytest.mark.parametrize("key", ["two words", "sk-schlüssel", "sk-\x07", "k" * (auth.MAX_KEY_CHARACTERS + 1)])
def test_what_can_be_no_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(Unauthenticated, match="is not one") as raised:
        identify(f"Bearer {key}", **OWN)
    assert key not in raised.value.message


def test_the_longest_key_is_one() -> None:
    key = "k" * auth.MAX_KEY_CHARACTERS
    assert identify(f"Bearer {key}").key == key


def test_the_admin_key_asks_deepseek_for_nothing() -> None:
    with pytest.raises(Unauthenticated, match="admin key"):
        identify("Bearer 0123456789abcdef0123", **OWN, **ADMIN)


@pytest.mark.parametrize(
    ("sent", "settings", "admin"),
    [
        ("Bearer 0123456789abcdef0123", ADMIN, True),
        ("Bearer 0123456789abcdef012", ADMIN, False),
        ("Bearer schlüssel", ADMIN, False),
        (None, ADMIN, False),
        (None, {}, False),
        ("Bearer ", {}, False),
    ],
)
def test_who_is_the_operator(sent: str | None, settings: dict[str, Any], admin: bool) -> None:
    assert auth.is_admin(request(sent), isolated(**settings)) is admin

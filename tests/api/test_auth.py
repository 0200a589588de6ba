"""Who sends a request, whose key it uses, and what is said to those who may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from deepseek_proxy.api import auth
from deepseek_proxy.api.gateway import OWN_TENANT, Caller, tenant_of
from deepseek_proxy.credentials import MAX_KEY_CHARACTERS
from deepseek_proxy.errors import PermissionDenied, Unauthenticated
from deepseek_proxy.settings import isolated

OWN = {"deepseek_api_key": "sk-own"}
ADMIN = {"admin_key": "0123456789abcdef0123"}
ALICE = "the-key-of-alice-01"
BOB = "the-key-of-bob-0001"
CLIENTS = {"keys": [{"key": ALICE, "name": "alice"}, {"key": BOB, "name": "bob", "expires": "2020-01-01"}]}

Identify = Callable[..., Caller]


def request(authorization: str | None, headers: Mapping[str, str] | None = None) -> Request:
    sent = dict(headers or {})
    if authorization is not None:
        sent["Authorization"] = authorization
    return Request(EnvironBuilder(headers=sent).get_environ())


@pytest.fixture
def identify(make: Callable[..., Any]) -> Identify:
    def identified(
        authorization: str | None, headers: Mapping[str, str] | None = None, **settings: Any
    ) -> Caller:
        return auth.identify(request(authorization, headers), make(**settings).gateway)

    return identified


# -- a gateway without keys for its clients -------------------------------------------------------


@pytest.mark.parametrize("sent", ["Bearer sk-client", "bearer sk-client", "BEARER   sk-client  "])
@pytest.mark.parametrize("settings", [{}, OWN])
def test_the_clients_own_key_comes_first(identify: Identify, sent: str, settings: dict[str, Any]) -> None:
    assert identify(sent, **settings) == Caller(tenant_of("sk-client"), "sk-client")


def test_anthropics_header_holds_a_key_too(identify: Identify) -> None:
    assert identify(None, {"x-api-key": "sk-client"}, **OWN) == Caller(tenant_of("sk-client"), "sk-client")


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Bearer gateway", "Basic c2stY2xpZW50"])
def test_without_one_the_gateways_is_used_for_all_alike(identify: Identify, sent: str | None) -> None:
    assert identify(sent, {"x-api-key": "gateway"}, **OWN) == Caller(OWN_TENANT)


@pytest.mark.parametrize("sent", [None, "Bearer ", "Bearer gateway", "Basic c2stY2xpZW50"])
def test_without_any_it_says_what_to_set(identify: Identify, sent: str | None) -> None:
    with pytest.raises(Unauthenticated, match=r"Authorization: Bearer.*DEEPSEEK_API_KEY"):
        identify(sent)


@pytest.mark.parametrize("key", ["two words", "sk-schlüssel", "sk-\x07", "k" * (MAX_KEY_CHARACTERS + 1)])
@pytest.mark.parametrize("settings", [OWN, CLIENTS])
def test_what_can_be_no_key_is_refused_and_not_repeated(
    identify: Identify, key: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated, match="is not one") as raised:
        identify(f"Bearer {key}", **settings)
    assert key not in raised.value.message
    with pytest.raises(Unauthenticated, match="x-api-key"):
        identify(None, {"x-api-key": key}, **settings)


def test_the_longest_key_is_one(identify: Identify) -> None:
    key = "k" * MAX_KEY_CHARACTERS
    assert identify(f"Bearer {key}").key == key


def test_a_foreign_page_may_not_use_the_own_key(identify: Identify) -> None:
    with pytest.raises(PermissionDenied):
        identify(None, {"Origin": "https://page.example"}, **OWN)


# -- a gateway with keys for its clients ----------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (f"Bearer {ALICE}", {}),
        (None, {"x-api-key": ALICE}),
        (f"Bearer {ALICE}", {"x-api-key": "sk-of-another-service"}),
        ("Bearer sk-of-another-service", {"x-api-key": ALICE}),
        (f"Bearer {ALICE}", {"Origin": "https://page.example"}),
    ],
)
@pytest.mark.parametrize("passthrough", [False, True])
def test_a_client_is_known_by_its_key(
    identify: Identify, sent: str | None, headers: dict[str, str], passthrough: bool
) -> None:
    caller = identify(sent, headers, **OWN, **CLIENTS, passthrough=passthrough)
    assert caller.client is not None
    assert (caller.tenant, caller.key, caller.client.name) == ("client:alice", None, "alice")


@pytest.mark.parametrize(
    "sent", [f"Bearer {ALICE}x", "Bearer sk-client", "Bearer gateway", "Bearer ", None, f"Basic {ALICE}"]
)
def test_everybody_else_is_refused(identify: Identify, sent: str | None) -> None:
    with pytest.raises(Unauthenticated) as raised:
        identify(sent, **OWN, **CLIENTS)
    assert ALICE not in raised.value.message


def test_a_file_of_keys_closes_the_gateway_also_while_there_is_none(
    identify: Identify, tmp_path: Any
) -> None:
    with pytest.raises(Unauthenticated):
        identify(None, **OWN, keys_file=tmp_path / "keys.json")


def test_callers_who_pay_for_themselves_are_let_through_where_that_is_meant(identify: Identify) -> None:
    settings = {**OWN, **CLIENTS, "passthrough": True}
    assert identify("Bearer sk-client", **settings) == Caller(tenant_of("sk-client"), "sk-client")
    for sent in (f"Bearer {ALICE}x", "Bearer gateway", None):
        with pytest.raises(Unauthenticated):
            identify(sent, **settings)


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_key_that_has_expired_says_so(identify: Identify, passthrough: bool) -> None:
    with pytest.raises(Unauthenticated, match="expired at 2020-01-02 00:00 UTC"):
        identify(f"Bearer {BOB}", **OWN, **CLIENTS, passthrough=passthrough)


def test_no_key_is_in_what_a_caller_shows(identify: Identify) -> None:
    assert "sk-client" not in repr(identify("Bearer sk-client"))
    assert ALICE not in repr(identify(f"Bearer {ALICE}", **CLIENTS))


# -- the operator ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, CLIENTS, {**CLIENTS, "passthrough": True}])
def test_the_admin_key_asks_deepseek_for_nothing(identify: Identify, settings: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated, match="admin key"):
        identify("Bearer 0123456789abcdef0123", **OWN, **ADMIN, **settings)


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

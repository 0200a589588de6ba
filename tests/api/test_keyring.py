"""Which client a key is that of."""

from __future__ import annotations

from deepseek_proxy.api.keyring import Keyring
from deepseek_proxy.credentials import ClientKey, digest_of

ALICE = ClientKey.model_validate({"key": "the-key-of-alice-01", "name": "alice"})
BOB = ClientKey.model_validate({"key_sha256": digest_of("the-key-of-bob-0001"), "name": "bob"})


def test_a_client_is_found_by_the_key_also_where_only_its_digest_is_known() -> None:
    ring = Keyring([ALICE, BOB], closed=True)
    assert ring.find("the-key-of-alice-01") is ALICE
    assert ring.find("the-key-of-bob-0001") is BOB


def test_nothing_else_is_a_key() -> None:
    ring = Keyring([ALICE, BOB], closed=True)
    for key in ("", "the-key-of-alice-02", "the-key-of-alice-0", BOB.digest, "alice", "schlüssel"):
        assert ring.find(key) is None

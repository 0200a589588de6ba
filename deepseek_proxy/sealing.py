"""Authenticated encryption for what a client keeps for us: the model's thinking in `encrypted_content`.

A token is `dsp1` + key id (4 bytes) + nonce (12 bytes) + ciphertext with its tag, in URL-safe base64
without padding. The text is compressed with zlib and sealed with AES-256-GCM (NIST SP 800-38D; random
96-bit nonces are good for 2^32 tokens per key). *Purpose* and *tenant* are authenticated with it, so a
token opens only where it was meant to, and only for whom it was made.

Refuses to know what is sealed, who a tenant is, and which dialect carries the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deepseek_proxy.settings import Settings, SettingsError

KEY_BYTES: Final = 32
KEY_FILE: Final = "seal.key"
MAX_PLAINTEXT_BYTES: Final = 64 * 1024 * 1024

_MAGIC: Final = base64.urlsafe_b64decode("dsp1")  # every token begins with these four characters
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_MAGIC) + _KEY_ID_BYTES + _NONCE_BYTES
_ZLIB_LEVEL: Final = 3  # a third of the time of level 6 for a tenth more bytes

logger = logging.getLogger(__name__)


class OpenFailure(StrEnum):
    """Why a token did not open."""

    FOREIGN = "foreign"
    """Not one of ours: another provider's token, or garbage."""
    UNKNOWN_KEY = "unknown_key"
    """Sealed with a key that is not in the ring (any more)."""
    REJECTED = "rejected"
    """Tampered with, or made for another tenant or purpose."""
    TOO_LARGE = "too_large"
    """Authentic, but larger than the bound once decompressed."""


class Sealer:
    """Seals with the first key of the ring, opens with every one. Safe to share between threads.

    `on_failure` is called with the reason whenever a token does not open. `max_plaintext_bytes` bounds
    what is sealed and what a token may decompress to.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        on_failure: Callable[[OpenFailure], None] | None = None,
        max_plaintext_bytes: int = MAX_PLAINTEXT_BYTES,
    ) -> None:
        if not keys:
            raise ValueError("a sealer needs at least one key")
        self._ring: Mapping[bytes, AESGCM] = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])
        self._on_failure = on_failure
        self._max = max_plaintext_bytes

    def seal(self, purpose: str, tenant: str, plaintext: bytes) -> str:
        """A token for `plaintext`. Raises `ValueError` when that is larger than the bound."""
        if len(plaintext) > self._max:
            raise ValueError(f"more than {self._max} bytes to seal")
        nonce = os.urandom(_NONCE_BYTES)
        header = _MAGIC + self._first + nonce
        sealed = self._ring[self._first].encrypt(
            nonce, zlib.compress(plaintext, _ZLIB_LEVEL), _associated(header, purpose, tenant)
        )
        return _to_base64(header + sealed)

    def open(self, purpose: str, tenant: str, token: object) -> bytes | None:
        """The text sealed in `token`, or None for whatever does not open. Never raises."""
        opened = self._open(purpose, tenant, token)
        if isinstance(opened, OpenFailure):
            if self._on_failure is not None:
                self._on_failure(opened)
            return None
        return opened

    def _open(self, purpose: str, tenant: str, token: object) -> bytes | OpenFailure:
        raw = _from_base64(token)
        if raw is None or len(raw) < _HEADER_BYTES or not raw.startswith(_MAGIC):
            return OpenFailure.FOREIGN
        header, sealed = raw[:_HEADER_BYTES], raw[_HEADER_BYTES:]
        cipher = self._ring.get(header[len(_MAGIC) : -_NONCE_BYTES])
        if cipher is None:
            return OpenFailure.UNKNOWN_KEY
        try:
            compressed = cipher.decrypt(header[-_NONCE_BYTES:], sealed, _associated(header, purpose, tenant))
        except InvalidTag:
            return OpenFailure.REJECTED
        inflater = zlib.decompressobj()
        try:
            # One byte more than allowed tells "exactly the bound" from "beyond it".
            plaintext = inflater.decompress(compressed, self._max + 1)
        except zlib.error:
            return OpenFailure.REJECTED
        return plaintext if len(plaintext) <= self._max else OpenFailure.TOO_LARGE


def load_or_create_keys(settings: Settings) -> tuple[bytes, ...]:
    """The key ring: `settings.seal_keys`, else the keys in `seal.key` (one a line) of `state_dir`.

    The file is created once, with mode 0600, whichever of several workers comes first. Where the folder
    cannot be written, a key that lives as long as this process takes its place, with a warning. Raises
    `SettingsError` for a key that is none, and for a key file that is there but cannot be used: going on
    without it would make every conversation of yesterday forget its thinking.
    """
    if settings.seal_keys:
        return tuple(
            _parse_key(secret.get_secret_value(), f"seal_keys[{i}]")
            for i, secret in enumerate(settings.seal_keys)
        )
    path = settings.state_dir / KEY_FILE
    try:
        if not path.exists():
            _create_key_file(path)
    except OSError as error:
        logger.warning(
            "No sealing key can be kept in %s (%s). This process makes do with a key of its own: after a "
            "restart, and on other workers, the thinking of earlier turns is not restored. Set "
            "DEEPSEEK_PROXY_SEAL_KEYS to 32 random bytes in base64, or DEEPSEEK_PROXY_STATE_DIR to a folder "
            "that can be written.",
            settings.state_dir,
            error.strerror,
        )
        return (secrets.token_bytes(KEY_BYTES),)
    return _read_key_file(path)


def _create_key_file(path: Path) -> None:
    """Puts a new key at `path` in one step, so that nobody ever reads half of it; the first one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this fails if another process was faster
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read_key_file(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text("ascii", errors="replace").split()
        if path.stat().st_mode & 0o077:
            logger.warning("%s can be read by other users; run: chmod 600 %s", path, path)
    except OSError as error:
        raise SettingsError(
            f"{path}: the sealing key cannot be read ({error.strerror}). Let this user read it, or set "
            "DEEPSEEK_PROXY_STATE_DIR to another folder."
        ) from None
    if not lines:
        raise SettingsError(
            f"{path}: the file is empty. Put the key back, or delete the file to get a new one."
        )
    return tuple(_parse_key(line, f"{path}, key {number}") for number, line in enumerate(lines, 1))


def _parse_key(text: str, where: str) -> bytes:
    standard = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{where}: not a key of {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes one"
        )
    return key


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"deepseek-proxy key id" + key).digest()[:_KEY_ID_BYTES]


def _associated(header: bytes, purpose: str, tenant: str) -> bytes:
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    bound = purpose.encode("utf-8", "surrogatepass")
    return header + len(bound).to_bytes(4) + bound + tenant.encode("utf-8", "surrogatepass")


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _from_base64(token: object) -> bytes | None:
    """The bytes of a token in the one spelling that `_to_base64` gives them."""
    if not isinstance(token, str) or not token.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    # The decoder skips foreign characters and ignores spare bits; a token that differs is not ours.
    return raw if _to_base64(raw) == token else None

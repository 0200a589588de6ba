"""The variables of whoever runs the tests, which must not count in them."""

from __future__ import annotations

import os

import pytest

from deepseek_proxy.settings import ENV_PREFIX


def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every variable away that is a setting."""
    for name in os.environ:
        if name.startswith((ENV_PREFIX, "DEEPSEEK_API_KEY")):
            monkeypatch.delenv(name)

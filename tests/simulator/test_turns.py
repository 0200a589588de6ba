from __future__ import annotations

import pytest

from deepseek_proxy.simulator.turns import Fault


def test_options_of_a_fault() -> None:
    fault = Fault("dsml", (("times", 2), ("style", "v4")))
    assert fault.number("times") == 2.0
    assert fault.text("style") == "v4"
    with pytest.raises(KeyError):
        fault.number("after")

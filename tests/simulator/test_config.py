from __future__ import annotations

from deepseek_proxy import models
from deepseek_proxy.simulator.config import SimulatorConfig


def test_the_defaults_are_deepseeks_limits_and_no_delay() -> None:
    config = SimulatorConfig()
    assert config.context_window == models.FLASH.context_window == models.PRO.context_window
    assert config.max_body_bytes == 48 * 1024 * 1024
    assert (config.token_seconds, config.fault, config.max_concurrency) == (0, "", None)

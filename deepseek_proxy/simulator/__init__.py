"""A DeepSeek stand-in for tests, for the demo, and for users who try their own clients offline.

It enforces DeepSeek's documented rules (`rules`), answers simply and deterministically (`brain`), says what a
test tells it to (`script`, `directives`), and fails on demand (`faults`). `create_simulator` is the Flask
application; `server.running` serves it for the length of a `with` block.
"""

from deepseek_proxy.simulator.app import create_simulator
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.server import running, serve

__all__ = ["SimulatorConfig", "create_simulator", "running", "serve"]

"""The reference page of all settings, made of `settings.py` alone: `docs/configuration.md` is its output."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from deepseek_proxy.settings import Settings

_MIB = 1024 * 1024

_HEAD = """\
# Configuration

<!-- Made by `make docs` out of deepseek_proxy/settings.py; edit that file. -->

Every setting has a default: with none at all, the gateway serves on `127.0.0.1:8787` and each client brings
its own DeepSeek key. A setting is looked for in this order:

1. an option of the command line: `deepseek-proxy serve --port 9000`;
2. the environment: `DEEPSEEK_PROXY_` and the name in capitals, such as `DEEPSEEK_PROXY_PORT=9000`. The key is
   read from the plain `DEEPSEEK_API_KEY` too. An empty variable counts as not set; maps are JSON, lists too,
   or words with commas between;
3. the configuration file, TOML or JSON: `--config FILE`, or its path in `DEEPSEEK_PROXY_CONFIG`. Names are
   those of the tables below; an unknown one is an error. Its name ends in `.json` or it is TOML;
4. for secrets, systemd's credentials of the same names (`$CREDENTIALS_DIRECTORY`), with which a path may
   begin, too.

```toml
# deepseek-proxy serve --config gateway.toml
port = 9000
workers = 4
deepseek_api_key_file = "~/.config/deepseek-key"
log_dir = "/var/log/deepseek-proxy"

[model_aliases]
"my-model" = "deepseek-v4-pro"
```

All mistakes are reported at once, before the port is opened, and the exit code is 2. `deepseek-proxy config`
prints what is in effect, with secrets masked; `deepseek-proxy check` finds out whether it works.

Under gunicorn a configuration file that has changed, or a file that it names, is taken within seconds, in
every worker, and no stream is cut; a mistake is logged and changes nothing. The server never writes to it.
"""


def reference_page() -> str:
    """The page as Markdown: a table for each section of the settings."""
    schema = Settings.model_json_schema(by_alias=False)["properties"]
    parts = [_HEAD]
    for title, names in _sections():
        parts += [
            f"\n## {title.capitalize()}\n",
            "\n| setting | values | default | meaning |\n|---|---|---|---|\n",
        ]
        for name in names:
            cells = (
                f"`{name}`",
                _values(schema[name]),
                _default(name),
                Settings.model_fields[name].description,
            )
            parts.append(f"| {' | '.join(map(str, cells))} |\n")
    return "".join(parts)


def _sections() -> Iterator[tuple[str, list[str]]]:
    """Names under their headings: the `# -- heading` comments between the fields."""
    _, *sections = re.split(r"^    # -- (.+)\n", inspect.getsource(Settings), flags=re.MULTILINE)
    for title, source in zip(sections[::2], sections[1::2]):
        declared = re.findall(r"^    (\w+):", source, flags=re.MULTILINE)
        yield title, [name for name in declared if name in Settings.model_fields]


def _values(schema: dict[str, Any]) -> str:
    """The accepted values in words, from a property's JSON schema."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kind = kinds[0]
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    least, most = kind.get("minimum"), kind.get("maximum")
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"{least} or more"
    if "exclusiveMinimum" in kind:
        return f"more than {kind['exclusiveMinimum']:g}"
    words = {"array": "list", "object": "map", "boolean": "`true`, `false`", "string": "text"}
    return {"uri": "URL", "path": "path", "password": "secret"}.get(kind.get("format"), words[kind["type"]])


def _default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return "`{}`" if field.default_factory is dict else "see there"
    value = field.default
    if value is None or value == ():
        return "none"
    if name.endswith("_bytes") and value % _MIB == 0:
        return f"`{value}` ({value // _MIB} MiB)"
    shown = str(value).lower() if isinstance(value, bool) else str(value).rstrip("/")
    return f"`{shown}`"

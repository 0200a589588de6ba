"""Writes the files of golden cases that follow from the others: `python tests/goldens/regenerate.py [CASE…]`.

A case of Chat Completions is named `chat/CASE`.

Without names, all cases. Nothing is right because it was written here: read the difference (`git diff`)
before it is committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from goldens.replay import CHAT_FOLDER, goldens


def main(names: list[str]) -> int:
    cases = {str(case): case for case in (*goldens(), *goldens(CHAT_FOLDER))}
    if unknown := [name for name in names if name not in cases]:
        print(f"no such case: {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in names or cases:
        for file, content in cases[name].replay().items():
            path = cases[name].folder / file
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
                print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

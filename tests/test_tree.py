"""The shape of the house: small modules, each with its own test file, and no drawers for odds and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "deepseek_proxy"
MODULES: Final = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

MAX_LINES: Final = 600

# Modules without a test file of their own: where they are tested, and why there.
ELSEWHERE: Final = {
    "__main__.py": ("cli/test_serve.py", "it is only ever run as a process"),
    "version.py": ("test_docs.py", "a number, which has to be that of the changelog"),
    "cli/child.py": ("cli/test_codex.py", "with a command that starts one"),
    "cli/options.py": ("cli/test_serve.py", "options belong to a command"),
    "cli/reference.py": ("test_docs.py", "it writes a page of the documents"),
    "cli/units.py": ("cli/test_install_service.py", "with the command that installs them"),
    "api/queued.py": ("api/test_background.py", "with what is queued"),
    "api/replaying.py": ("api/test_stored_responses.py", "with streams that are replayed"),
    "api/recorder.py": ("api/test_store_recorder.py", "with a recorder that records"),
    "store/base.py": ("store/test_store.py", "values, and what a backend has to be able to do"),
    "store/memory.py": ("store/test_store.py", "the suite that every backend passes"),
    "store/redis_scripts.py": ("store/test_store.py", "what the backend has Redis do"),
    "store/sqlite_file.py": ("store/test_sqlite.py", "files, locks, versions: what it stands on"),
    "store/sqlite_tables.py": ("store/test_sqlite.py", "the tables of the backend"),
    "store/sqlite_rows.py": ("store/test_store.py", "changes that the backend's operations have in common"),
    "translate/responses/place.py": ("translate/responses/test_parameters.py", "values that are echoed"),
    "translate/chat/options.py": ("translate/chat/test_stream.py", "values that the machine takes"),
    "translate/responses/options.py": ("translate/responses/test_stream.py", "values that the machine takes"),
}


def own_test(module: Path) -> Path:
    return ROOT / "tests" / module.with_name(f"test_{module.name}")


@pytest.mark.parametrize(
    "module", [path for path in MODULES if path.name != "__init__.py"], ids=lambda path: path.as_posix()
)
def test_a_module_has_its_test_file(module: Path) -> None:
    assert own_test(module).exists() or module.as_posix() in ELSEWHERE


@pytest.mark.parametrize(("module", "tested"), [(name, where) for name, (where, _) in ELSEWHERE.items()])
def test_the_exceptions_are_true(module: str, tested: str) -> None:
    assert Path(module) in MODULES, f"{module} is gone: so should be its exception"
    assert not own_test(Path(module)).exists(), f"{module} has its own test file: no exception is needed"
    assert (ROOT / "tests" / tested).exists()


@pytest.mark.parametrize("folder", ["deepseek_proxy", "tests", "benchmarks"])
def test_every_file_is_small_enough_to_read(folder: str) -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.as_posix())
def test_a_module_says_what_it_is_for(module: Path) -> None:
    assert (PACKAGE / module).read_text("utf-8").startswith('"""')


def test_there_are_no_drawers_for_odds_and_ends() -> None:
    parts = {part for module in MODULES for part in module.with_suffix("").parts}
    assert not parts & {"utils", "util", "helpers", "helper", "common", "misc", "shared"}

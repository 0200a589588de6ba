"""A missing program skips a test and says how to get it, and the whole test run gets all of them itself."""

from __future__ import annotations

import re
from typing import Final

import pytest
from harness import programs

PROGRAMS: Final = [name for name, source in programs.SOURCES.items() if source.startswith("apt ")]
ON_EVERY_DEBIAN: Final = {"util-linux"}


def test_without_a_program_a_test_is_skipped_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PLACES", ())
    with pytest.raises(pytest.skip.Exception, match=re.escape("nginx is not installed (apt install nginx)")):
        programs.program("nginx", "apache")


def test_another_program_may_take_its_place() -> None:
    assert programs.program("no-such-program", "sh") == programs.find("sh") is not None


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_whole_test_run_installs_it(name: str) -> None:
    package = programs.SOURCES[name].removeprefix("apt install ")
    installing = (programs.ROOT / ".ci" / "run").read_text()
    installed = re.findall(r"missing\+=\((.+?)\)|apt-get download -qq (\S+)", installing)
    assert package in {*ON_EVERY_DEBIAN, *(either or other for either, other in installed)}

"""When a file counts as changed, and which files are looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepseek_proxy.ops.watching import Watch, files_of
from deepseek_proxy.settings import isolated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text("one")
    return path


def answers(watch: Watch, looks: int = 4) -> list[bool]:
    return [watch.changed() for _ in range(looks)]


def test_nothing_happens_where_nothing_does(path: Path) -> None:
    assert not any(answers(Watch([path, path.with_name("none")])))
    assert not any(answers(Watch([])))


def test_a_change_counts_once_when_it_is_finished(path: Path) -> None:
    watch = Watch([path])
    path.write_text("tw")
    assert not watch.changed()
    path.write_text("two")
    assert answers(watch) == [False, True, False, False]


def test_a_file_is_read_only_when_it_looks_different(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks every second, for as long as the gateway runs."""
    watch, reads, read = Watch([path]), [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or read(self))
    answers(watch)
    assert reads == []
    path.write_text("two")
    assert answers(watch) == [False, True, False, False]
    assert reads == [path]


def test_a_file_that_was_only_touched_has_not_changed(path: Path) -> None:
    watch = Watch([path])
    os.utime(path)
    assert not any(answers(watch))
    path.write_text("two")
    path.write_text("one")
    assert not any(answers(watch))


def test_another_file_of_the_name_counts_also_through_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    watch = Watch([link])
    other = tmp_path / "other"
    other.write_text("two")
    other.rename(path)
    assert answers(watch) == [False, True, False, False]
    (tmp_path / "third").write_text("three")
    (tmp_path / "new").symlink_to(tmp_path / "third")
    (tmp_path / "new").rename(link)  # as Kubernetes does it
    assert answers(watch) == [False, True, False, False]


def test_so_does_one_that_goes_and_one_that_comes(path: Path) -> None:
    watch = Watch([path])
    path.unlink()
    assert answers(watch) == [False, True, False, False]
    path.write_text("one")
    assert answers(watch) == [False, True, False, False]


def test_the_files_are_those_that_settings_are_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / name for name in ("deepseek", "admin", "bob", "one")}
    for file in files.values():
        file.write_text("a-key-of-16-characters")
    monkeypatch.setenv("DEEPSEEK_PROXY_CONFIG", str(tmp_path / "config.json"))
    settings = isolated(
        deepseek_api_key_file=files["deepseek"],
        admin_key_file=files["admin"],
        keys=[{"key_file": files["bob"], "name": "bob"}],
        keys_file=tmp_path / "keys.json",  # the key ring looks after it
        accounts=[{"api_key_file": files["one"]}],
    )
    assert set(files_of(settings)) == {*files.values(), tmp_path / "config.json"}
    monkeypatch.delenv("DEEPSEEK_PROXY_CONFIG")
    assert files_of(isolated()) == ()

"""`install-service`: what it says, writes, runs, keeps and takes back. systemctl takes notes only.

What the units are worth: tests/deploy/test_systemd.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepseek_proxy.cli import main, units
from deepseek_proxy.cli.install_service import marked

SERVICE, SOCKET = "deepseek-proxy.service", "deepseek-proxy.socket"
PROGRAM = str(Path(sys.executable).with_name("deepseek-proxy"))


class Home:
    """A user's configuration folder, and the notes of what systemctl was told."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.units = folder / "config" / "systemd" / "user"
        self.config = folder / "config" / "deepseek-proxy" / "config.toml"

    def told(self) -> list[str]:
        """What systemctl was told since the last time."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return lines

    def files(self) -> list[str]:
        return sorted(path.name for path in self.units.iterdir())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    programs = tmp_path / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/notes\nexit ${{FAILS:-0}}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Home(tmp_path)


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, ["install-service", *arguments], input=answer)


INSTALL = ["--user daemon-reload", f"--user enable --now {SOCKET} {SERVICE}"]


def test_it_installs_what_it_has_shown(home: Home) -> None:
    result = run("--user", "--yes")
    assert result.exit_code == 0, result.output
    assert home.told() == INSTALL
    assert home.files() == [SERVICE, SOCKET]
    for name in (SERVICE, SOCKET):
        assert f"create  {home.units / name}" in result.output
        for line in (home.units / name).read_text().splitlines():
            assert f"    +{line}\n" in result.output
    assert f"\nExecStart={PROGRAM} serve\n" in (home.units / SERVICE).read_text()
    assert home.config.read_text() == units.user_config()
    assert home.config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_it_does_nothing_without_a_yes(home: Home, answer: str) -> None:
    result = run("--user", answer=answer)
    assert result.exit_code == 1
    assert "Do this? [y/N]" in result.output
    assert home.told() == []
    assert not home.units.exists()


def test_it_does_it_after_a_yes(home: Home) -> None:
    assert run("--user", answer="y\n").exit_code == 0
    assert home.told() == INSTALL


def test_a_second_time_it_changes_nothing(home: Home) -> None:
    run("--user", "--yes")
    home.told()
    before = (home.units / SERVICE).stat()
    result = run("--user", "--yes")
    assert result.output.count("keep    ") == 3
    assert home.told() == INSTALL
    assert (home.units / SERVICE).stat() == before


def test_a_changed_configuration_file_stays(home: Home) -> None:
    run("--user", "--yes")
    home.config.write_text("workers = 3\n")
    run("--user", "--yes")
    assert home.config.read_text() == "workers = 3\n"


@pytest.mark.parametrize(
    ("name", "restart"),
    [(SERVICE, f"--user restart {SERVICE}"), (SOCKET, f"--user restart {SOCKET} {SERVICE}")],
)
def test_a_new_version_of_a_unit_takes_the_place_of_the_old_one(home: Home, name: str, restart: str) -> None:
    run("--user", "--yes")
    home.told()
    current = (home.units / name).read_text()
    (home.units / name).write_text(marked("# an earlier version\n"))
    result = run("--user", "--yes")
    assert f"change  {home.units / name}\n" in result.output
    assert "    -# an earlier version\n" in result.output
    assert (home.units / name).read_text() == current
    assert home.files() == [SERVICE, SOCKET]
    assert home.told() == [*INSTALL, restart]


FOREIGN = "[Service]\nExecStart=/usr/bin/something-else\n"


def test_a_foreign_file_is_put_aside_and_comes_back(home: Home) -> None:
    home.units.mkdir(parents=True)
    (home.units / SERVICE).write_text(FOREIGN)
    result = run("--user", "--yes")
    assert f"change  {home.units / SERVICE}  (what is there becomes {SERVICE}.bak)" in result.output
    assert (home.units / f"{SERVICE}.bak").read_text() == FOREIGN
    assert PROGRAM in (home.units / SERVICE).read_text()

    result = run("--user", "--undo", "--yes")
    assert f"restore {home.units / SERVICE}  (from {SERVICE}.bak)" in result.output
    assert home.files() == [SERVICE]
    assert (home.units / SERVICE).read_text() == FOREIGN


def test_what_was_put_aside_once_is_never_overwritten(home: Home) -> None:
    home.units.mkdir(parents=True)
    (home.units / SERVICE).write_text(FOREIGN)
    run("--user", "--yes")
    with (home.units / SERVICE).open("a") as service:
        service.write("Environment=EDITED=by-hand\n")
    edited = (home.units / SERVICE).read_text()
    run("--user", "--yes")
    assert (home.units / f"{SERVICE}.bak").read_text() == FOREIGN
    assert (home.units / f"{SERVICE}.bak.1").read_text() == edited


@pytest.mark.parametrize("leads_somewhere", [True, False])
def test_a_link_is_put_aside_and_not_written_through(
    home: Home, tmp_path: Path, leads_somewhere: bool
) -> None:
    home.units.mkdir(parents=True)
    target = tmp_path / "elsewhere.service"
    if leads_somewhere:
        target.write_text(FOREIGN)
    (home.units / SERVICE).symlink_to(target)
    run("--user", "--yes")
    assert not leads_somewhere or target.read_text() == FOREIGN
    assert (home.units / f"{SERVICE}.bak").readlink() == target
    assert not (home.units / SERVICE).is_symlink()


# -- the way back ---------------------------------------------------------------------------------


def test_undo_takes_away_what_was_installed_and_keeps_the_settings(home: Home) -> None:
    run("--user", "--yes")
    home.told()
    result = run("--user", "--undo", answer="y\n")
    assert result.exit_code == 0, result.output
    assert home.files() == []
    assert home.config.exists()
    assert str(home.config) in result.output
    assert home.told() == [f"--user disable --now {SOCKET} {SERVICE}", "--user daemon-reload"]


def test_undo_leaves_a_unit_that_was_changed_since(home: Home) -> None:
    run("--user", "--yes")
    (home.units / SOCKET).write_text("[Socket]\nListenStream=127.0.0.1:9000\n")
    result = run("--user", "--undo", "--yes")
    assert f"keep    {home.units / SOCKET}  (changed since, or not ours)" in result.output
    assert home.files() == [SOCKET]


def test_undo_without_an_installation_touches_nothing(home: Home) -> None:
    home.units.mkdir(parents=True)
    (home.units / SERVICE).write_text(FOREIGN)
    result = run("--user", "--undo", "--yes")
    assert (result.exit_code, result.output) == (0, "Nothing was installed here by this command.\n")
    assert home.told() == []
    assert home.files() == [SERVICE]


def test_undo_goes_on_where_systemctl_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as for a service that was never loaded."""
    run("--user", "--yes")
    monkeypatch.setenv("FAILS", "1")
    assert run("--user", "--undo", "--yes").exit_code == 0
    assert home.files() == []


# -- the system, and what goes wrong --------------------------------------------------------------


def test_into_an_image(home: Home, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    result = run("--root", str(image), "--yes")
    assert result.exit_code == 0, result.output
    assert home.told() == [f"--root={image} enable {SOCKET} {SERVICE}"]
    assert f"\nExecStart={PROGRAM} serve\n" in (image / "etc/systemd/system" / SERVICE).read_text()
    config = image / "etc/deepseek-proxy/config.toml"
    assert config.stat().st_mode & 0o777 == 0o644
    assert run("--root", str(image), "--yes", "--undo").exit_code == 0
    assert home.told() == [f"--root={image} disable {SOCKET} {SERVICE}"]
    assert [path for path in image.rglob("*") if path.is_file()] == [config]


def test_a_command_that_fails_says_how_to_go_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "4")
    result = run("--user", "--yes")
    assert result.exit_code == 1
    assert "`systemctl --user daemon-reload` failed with 4" in result.output
    assert "--undo" in result.output


def test_a_folder_that_cannot_be_made_is_named(home: Home) -> None:
    home.units.parent.parent.mkdir()
    home.units.parent.write_text("not a folder")
    result = run("--user", "--yes")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == f"Error: {home.units}: Not a directory"


def test_without_systemd_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--user", "--yes")
    assert (result.exit_code, result.output) == (1, "Error: systemd is not here: there is no systemctl\n")


def test_user_and_root_exclude_each_other(home: Home, tmp_path: Path) -> None:
    result = run("--user", "--root", str(tmp_path))
    assert result.exit_code == 2
    assert "do not go together" in result.output

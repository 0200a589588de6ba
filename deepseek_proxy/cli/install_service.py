"""`deepseek-proxy install-service`: makes a systemd service of this installation, or takes it away again.

Says everything it is going to do before it does anything. What it did not write itself is never lost: such a
file is put aside as `NAME.bak` and comes back with `--undo`. Refuses to know what the units say (`units`).
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from deepseek_proxy.cli import units

_HIDDEN_FOLDERS: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  # from the service
_MARK: Final = "# Written by `deepseek-proxy install-service`. Mark: "
_BACKUP_SUFFIX: Final = ".bak"


@dataclass(frozen=True)
class Place:
    """Where the service is installed: for the system or for one user; `root` is an image's root folder."""

    user: bool
    root: Path

    @property
    def units(self) -> Path:
        return _user_config() / "systemd/user" if self.user else self.root / "etc/systemd/system"

    @property
    def config(self) -> Path:
        folder = _user_config() if self.user else self.root / "etc"
        return folder / "deepseek-proxy" / units.CONFIG_NAME

    def systemctl(self, *arguments: str) -> list[str]:
        options = ["--user"] if self.user else [] if self.is_this_machine else [f"--root={self.root}"]
        return ["systemctl", *options, *arguments]

    @property
    def is_this_machine(self) -> bool:
        return self.root == Path("/")


@dataclass(frozen=True)
class Write:
    """Puts a file in place. A foreign one that is there is put aside; with `once` it stays instead."""

    path: Path
    text: str
    mode: int = 0o644
    once: bool = False

    @property
    def needed(self) -> bool:
        return not self.path.exists() if self.once else _read(self.path) != self.text

    def describe(self) -> Iterator[str]:
        before = _read(self.path)
        if not self.needed:
            yield f"keep    {self.path}"
            return
        aside = f"  (what is there becomes {_backup(self.path).name})" if _is_foreign(before) else ""
        yield f"{'create' if before is None else 'change':7} {self.path}{aside}"
        old, new = (before or "").splitlines(), self.text.splitlines()
        for line in list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]:
            yield f"    {line}"

    def perform(self) -> None:
        if not self.needed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _is_foreign(_read(self.path)):
            self.path.rename(_backup(self.path))
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.write_text(self.text, "utf-8")
        draft.chmod(self.mode)
        draft.replace(self.path)


@dataclass(frozen=True)
class Remove:
    """Takes a file away that is as we wrote it, and brings back what was put aside for it."""

    path: Path

    @property
    def needed(self) -> bool:
        text = _read(self.path)
        return text is not None and not _is_foreign(text)

    def describe(self) -> Iterator[str]:
        if not self.needed:
            if self.path.exists():
                yield f"keep    {self.path}  (changed since, or not ours)"
            return
        yield f"remove  {self.path}"
        if (aside := _latest_backup(self.path)) is not None:
            yield f"restore {self.path}  (from {aside.name})"

    def perform(self) -> None:
        if not self.needed:
            return
        self.path.unlink()
        if (aside := _latest_backup(self.path)) is not None:
            aside.rename(self.path)


@dataclass(frozen=True)
class Run:
    """Runs a command. Where `must_succeed` is not set, its failure is only shown."""

    command: list[str]
    must_succeed: bool = True

    def describe(self) -> Iterator[str]:
        yield f"run     {shlex.join(self.command)}"

    def perform(self) -> None:
        done = subprocess.run(self.command, check=False)  # noqa: S603
        if done.returncode and self.must_succeed:
            raise click.ClickException(
                f"`{shlex.join(self.command)}` failed with {done.returncode}. The files are in place; "
                "`deepseek-proxy install-service --undo` takes them away."
            )


Step = Write | Remove | Run


@click.command("install-service", short_help="Run the gateway under systemd.")
@click.option("--user", is_flag=True, help="For yourself only, without root: a service of your login.")
@click.option("--undo", is_flag=True, help="Stop the service and take away what was installed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    help="Install into the image of a system below DIR; nothing is started.",
)
def command(user: bool, undo: bool, yes: bool, root: Path) -> None:
    """Make a systemd service of this installation: socket, service and a configuration file.

    Shows what it is going to do, and asks. A file that is not its own is kept as NAME.bak. `--undo` leaves
    the configuration file and the state folder where they are.
    """
    if user and root != Path("/"):
        raise click.UsageError("--user and --root do not go together")
    place = Place(user, root)
    _check_machine(place, undo)
    try:
        steps = undoing(place) if undo else installing(place, _program())
        if not steps:
            click.echo("Nothing was installed here by this command.")
            return
        for step in steps:
            for line in step.describe():
                click.echo(_coloured(line))
        _check_rights(place)
        if not yes:
            click.confirm("\nDo this?", abort=True)
        for step in steps:
            step.perform()
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(_farewell(place, undo))


def installing(place: Place, program: str) -> list[Step]:
    """The steps, in order. `program` is the command line that `serve` is added to."""
    text = units.user_service(program) if place.user else units.service(program)
    service = Write(place.units / units.SERVICE_NAME, marked(text))
    address = Write(place.units / units.SOCKET_NAME, marked(units.socket()))
    settings = units.user_config() if place.user else units.config()
    config = Write(place.config, settings, 0o600 if place.user else 0o644, once=True)
    steps: list[Step] = [config, address, service]
    names = (units.SOCKET_NAME, units.SERVICE_NAME)
    if not place.is_this_machine:
        return [*steps, Run(place.systemctl("enable", *names))]
    steps += [Run(place.systemctl("daemon-reload")), Run(place.systemctl("enable", "--now", *names))]
    if address.needed and address.path.exists():  # a socket changes its address while its service is down
        steps.append(Run(place.systemctl("restart", *names)))
    elif service.needed and service.path.exists():
        steps.append(Run(place.systemctl("restart", units.SERVICE_NAME)))
    return steps


def undoing(place: Place) -> list[Step]:
    """The steps, in order; none where there is nothing of ours."""
    names = (units.SOCKET_NAME, units.SERVICE_NAME)
    files = [Remove(place.units / name) for name in names]
    if not any(file.needed for file in files):
        return []
    if not place.is_this_machine:
        return [Run(place.systemctl("disable", *names), must_succeed=False), *files]
    stop = Run(place.systemctl("disable", "--now", *names), must_succeed=False)
    return [stop, *files, Run(place.systemctl("daemon-reload"), must_succeed=False)]


# -- this machine ---------------------------------------------------------------------------------


def _check_machine(place: Place, undo: bool) -> None:
    if shutil.which("systemctl") is None:
        raise click.ClickException("systemd is not here: there is no systemctl")
    if place.user or not place.is_this_machine:
        return
    if not Path("/run/systemd/system").is_dir():  # sd_booted(3)
        raise click.ClickException("this machine was not started by systemd")
    hidden = next(filter(_is_hidden, (sys.prefix, sys.base_prefix)), None)
    if hidden and not undo:
        raise click.ClickException(
            f"the service cannot see {hidden}: it runs as a user of its own, without home folders. Install "
            "deepseek-proxy and its Python for all users, such as into /opt/deepseek-proxy, or use --user."
        )


def _check_rights(place: Place) -> None:
    if not place.user and place.is_this_machine and os.geteuid() != 0:
        raise click.ClickException(f"only root may do this: sudo {shlex.join(sys.argv)}")


def _is_hidden(folder: str) -> bool:
    return any(Path(folder).resolve().is_relative_to(hidden) for hidden in _HIDDEN_FOLDERS)


def _program() -> str:
    """How this installation is started: by its own command, else as a module."""
    script = Path(sys.executable).with_name("deepseek-proxy")
    parts = [str(script)] if script.exists() else [sys.executable, "-m", "deepseek_proxy"]
    # systemd.service(5), "Command lines": quoting of its own, and two characters that mean something.
    return (
        " ".join(f'"{part}"' if " " in part else part for part in parts).replace("%", "%%").replace("$", "$$")
    )


def _user_config() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


# -- files ----------------------------------------------------------------------------------------


def _read(path: Path) -> str | None:
    """What is there: None for nothing, "" for a link that leads nowhere."""
    try:
        return path.read_text("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return "" if path.is_symlink() else None


def marked(text: str) -> str:
    """`text` with a first line by which we know it again, as long as nobody changes it."""
    return f"{_MARK}{_digest(text)}\n{text}"


def _is_foreign(text: str | None) -> bool:
    """Whether somebody else wrote this file, or has changed it since we did."""
    if text is None:
        return False
    first, _, rest = text.partition("\n")
    return first != f"{_MARK}{_digest(rest)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _backup(path: Path) -> Path:
    """The first free name for what is put aside."""
    number = 0
    while os.path.lexists(aside := _numbered(path, number)):
        number += 1
    return aside


def _latest_backup(path: Path) -> Path | None:
    number = 0
    while os.path.lexists(_numbered(path, number)):
        number += 1
    return _numbered(path, number - 1) if number else None


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(path.name + _BACKUP_SUFFIX + (f".{number}" if number else ""))


# -- what is said ---------------------------------------------------------------------------------


def _coloured(line: str) -> str:
    colours = {"    +": "green", "    -": "red", "    @": "cyan"}
    return click.style(line, fg=colours.get(line[:5]), bold=not line.startswith(" "))


def _farewell(place: Place, undo: bool) -> str:
    status = shlex.join(place.systemctl("status", units.SERVICE_NAME))
    logs = "journalctl " + ("--user " if place.user else "") + f"-u {units.SERVICE_NAME} -f"
    if undo:
        return f"\nLeft where it is: {place.config}, and the state folder."
    if not place.is_this_machine:
        return "\nIt starts with the image."
    return f"\nSettings: {place.config}\nState:    {status}\nLogs:     {logs}"

"""The image and the compose file, as far as that goes without a Docker engine.

The image's own steps are run without one: the wheel is built of what the ignore file lets through, and the
gateway is started as the numeric user on a read-only tree.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.programs import program

from deepseek_proxy.ops.lifecycle import LAST_WORDS_SECONDS
from deepseek_proxy.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
GATEWAY = COMPOSE["services"]["gateway"]
HOME = "/opt/deepseek-proxy"
STATE = "/var/lib/deepseek-proxy"
KEY = "sk-docker-canary-51c7"


def instructions() -> list[list[tuple[str, str]]]:
    """The Dockerfile's stages: instruction and the rest of its line."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines()]
    stages: list[list[tuple[str, str]]] = []
    for name, _, rest in (line.partition(" ") for line in lines if line):
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest))
    return stages


BUILD, FINAL = instructions()


def only(name: str) -> str:
    (value,) = [rest for instruction, rest in FINAL if instruction == name]
    return value


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


# -- the files ------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    command = [program("hadolint"), FOLDER / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    user, group = map(int, only("USER").split(":"))
    assert user > 999
    assert group > 999
    assert f"--owner={user} --group={group} --mode=0700 {STATE}" in only("RUN")
    assert only("STOPSIGNAL") == "SIGTERM"
    assert json.loads(only("ENTRYPOINT")) + json.loads(only("CMD")) == ["deepseek-proxy", "serve"]
    assert only("EXPOSE") == environment()["DEEPSEEK_PROXY_PORT"] == "8787"


def test_the_final_stage_holds_what_was_built_and_nothing_that_builds() -> None:
    assert only("COPY") == f"--from=build {HOME} {HOME}"
    assert "pip" not in only("RUN")
    assert only("FROM") == BUILD[0][1].removesuffix(" AS build")


def test_all_variables_are_settings() -> None:
    known = {f"DEEPSEEK_PROXY_{name.upper()}" for name in Settings.model_fields}
    used = {name for name in (*environment(), *GATEWAY["environment"]) if name.startswith("DEEPSEEK_PROXY_")}
    assert used
    assert used <= known


def test_compose_waits_longer_than_the_drain() -> None:
    """What Docker kills can say no last word, and logs no request."""
    needed = Settings.model_fields["drain_seconds"].default + LAST_WORDS_SECONDS + 5
    assert int(GATEWAY["stop_grace_period"].removesuffix("s")) > needed
    assert "DEEPSEEK_PROXY_DRAIN_SECONDS" not in GATEWAY["environment"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_may_do_no_more_than_it_needs(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert name != "gateway" or service["tmpfs"] == ["/tmp"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_redis_is_reached_by_nobody_else_and_drops_nothing() -> None:
    service = COMPOSE["services"]["redis"]
    assert "ports" not in service
    command = service["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_others_come_only_when_asked_for() -> None:
    assert [name for name, service in COMPOSE["services"].items() if "profiles" not in service] == ["gateway"]


def test_keys_are_secrets_and_in_no_variable() -> None:
    variables = GATEWAY["environment"]
    assert set(GATEWAY["secrets"]) == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert variables[f"DEEPSEEK_PROXY_{name.upper()}_FILE"] == f"/run/secrets/{name}"
        assert f"DEEPSEEK_PROXY_{name.upper()}" not in variables
        folder = (FOLDER / secret["file"]).parent.relative_to(ROOT)
        assert (
            f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()
        )  # Vercel's uploads heed it, too
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/admin_key"
    assert job["static_configs"][0]["targets"] == ["gateway:8787"]


def test_every_file_and_volume_that_compose_names_is_there() -> None:
    build = GATEWAY["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (FOLDER / source).is_file(), source
    assert f"state:{STATE}" in GATEWAY["volumes"]


# -- the steps ------------------------------------------------------------------------------------


def context(target: Path) -> Path:
    """The folder that Docker would be sent: what the ignore file lets through."""
    rules = [
        line
        for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    again = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for allowed in (rule[1:] for rule in rules if rule.startswith("!")):
        source = ROOT / allowed
        if source.is_dir():
            shutil.copytree(source, target / allowed, ignore=shutil.ignore_patterns(*again))
        else:
            shutil.copy(source, target)
    return target


def test_nothing_that_is_copied_is_left_out_and_nothing_else_is_sent(tmp_path: Path) -> None:
    sent = {path.name for path in context(tmp_path).iterdir()}
    copied = {
        name.rstrip("/")
        for instruction, rest in BUILD
        if instruction == "COPY"
        for name in rest.split()[:-1]
        if not name.startswith("--")
    }
    assert sent == copied
    assert not [path for path in tmp_path.rglob("*") if fnmatch.fnmatch(path.name, "__pycache__")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environment of the image, its dependencies being those of this test's own."""
    home = tmp_path_factory.mktemp("image")
    os.chmod(home, 0o755)  # the image's user has to find it
    for folder in (home.parent, home.parent.parent):
        os.chmod(folder, folder.stat().st_mode | 0o011)
    source = context(tmp_path_factory.mktemp("context"))
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([sys.executable, "-m", "venv", "--without-pip", home])
    run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source])
    (wheel,) = wheels.glob("*.whl")
    run([*pip, "--python", home / "bin" / "python", "install", "--quiet", "--no-deps", wheel])
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    assert done.returncode == 0, done.stdout


class Container:
    """A command of the image: its user, its variables, a read-only tree but for the state folder."""

    def __init__(self, image: Path, folder: Path, command: Sequence[str], **variables: str) -> None:
        user = only("USER").split(":")[0]
        self.state = folder / "state"
        temporary = folder / "tmp"  # `tmpfs: [/tmp]`
        for mount in (self.state, temporary):
            mount.mkdir()
        self._log = folder / "log"
        inside = {name: value.replace(HOME, str(image)) for name, value in environment().items()}
        inside["PATH"] = inside["PATH"].replace("$PATH", os.environ["PATH"])
        inside |= {"DEEPSEEK_PROXY_STATE_DIR": str(self.state), "TMPDIR": str(temporary)}
        self.environment = {**inside, **variables}
        # To read everything takes the place of an image of its own: Python may lie in root's home here.
        become = f"{program('setpriv')} --reuid {user} --regid {user} --clear-groups --no-new-privs"
        become += " --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
        script = f"mount -t tmpfs -o uid={user},gid={user},mode=0700 tmpfs {self.state}"
        script += f" && mount -t tmpfs -o mode=1777 tmpfs {temporary}"
        script += f' && mount -o remount,bind,ro / && exec {become} "$@"'
        unshared = [program("unshare"), "--mount", "sh", "-c"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*unshared, script, "sh", image / "bin" / command[0], *command[1:]],
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def health(self) -> int:
        """The exit code of the health check."""
        command = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
        python = Path(self.environment["PATH"].split(":")[0]) / command[0]
        return subprocess.run(
            [python, *command[1:]], env=self.environment, capture_output=True, timeout=10
        ).returncode

    def status(self) -> dict[str, str]:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def start(image: Path, tmp_path: Path) -> Iterator[Any]:
    if os.getuid() != 0:
        pytest.skip("only root can become another user on a read-only tree")
    probe = subprocess.run([program("unshare"), "--mount", "true"], capture_output=True, timeout=10)
    if probe.returncode != 0:
        pytest.skip("this machine does not let its root have mounts of its own (docker run --privileged)")
    started: list[Container] = []

    def begin(command: Sequence[str], **variables: str) -> Container:
        started.append(Container(image, tmp_path, command, **variables))
        return started[-1]

    yield begin
    for container in started:
        if container.process.poll() is None:
            container.process.kill()
        container.process.wait()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def secret(folder: Path, name: str, value: str) -> str:
    path = folder / name
    path.write_text(value + "\n")
    path.chmod(0o444)
    return str(path)


COMMAND = [*json.loads(only("ENTRYPOINT")), *json.loads(only("CMD"))]


def test_it_starts_as_its_user_on_a_read_only_tree_turns_healthy_and_stops(
    start: Any, tmp_path: Path
) -> None:
    given = {name: value for name, value in GATEWAY["environment"].items() if value is not None}
    variables = {**given, "DEEPSEEK_PROXY_PORT": free_port()}
    for name, value in (("deepseek_api_key", KEY), ("admin_key", "docker-admin-canary")):
        variables[f"DEEPSEEK_PROXY_{name.upper()}_FILE"] = secret(tmp_path, name, value)
    container = start(COMMAND, **variables)
    deadline = time.monotonic() + 20
    while container.health() != 0:
        assert container.process.poll() is None, container.log
        assert time.monotonic() < deadline, container.log
        time.sleep(0.1)

    status = container.status()
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {only("USER").split(":")[0]}
    assert status["NoNewPrivs"] == "1"
    mounts = Path(f"/proc/{container.process.pid}/mountinfo").read_text().splitlines()
    (tree,) = [line.split() for line in mounts if line.split()[4] == "/"]
    assert "ro" in tree[5].split(",")
    key = Path(f"/proc/{container.process.pid}/root{container.state}/seal.key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.stat().st_uid == int(only("USER").split(":")[0])
    assert "cannot be kept" not in container.log
    assert "No sealing key" not in container.log

    container.process.send_signal(getattr(signal, only("STOPSIGNAL")))
    assert container.process.wait(15) == 0, container.log
    assert container.health() != 0
    assert "Traceback" not in container.log
    assert KEY not in container.log


def test_a_key_opens_it_to_the_network_only_on_purpose(start: Any, tmp_path: Path) -> None:
    """`docker run` with a key and without `allow_remote`: the container says why it does not start."""
    container = start(COMMAND, DEEPSEEK_PROXY_DEEPSEEK_API_KEY_FILE=secret(tmp_path, "key", KEY))
    assert container.process.wait(15) == 2
    assert "DEEPSEEK_PROXY_ALLOW_REMOTE=true" in container.log
    assert KEY not in container.log


def test_a_secret_that_is_not_there_is_named(start: Any, tmp_path: Path) -> None:
    container = start(COMMAND, DEEPSEEK_PROXY_DEEPSEEK_API_KEY_FILE=str(tmp_path / "deepseek_api_key"))
    assert container.process.wait(15) == 2
    assert "deepseek_api_key_file" in container.log
    assert "cannot be read" in container.log

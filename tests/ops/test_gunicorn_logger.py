"""A real gunicorn writes its own logs as we write ours."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"
PROMPT = "what the user wrote"
KEY = "sk-0123456789abcdef0123456789abe78f"

APP = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/breaks":
        raise LookupError(environ["HTTP_X_PROMPT"])
    start_response("200 OK", [("x-REQUEST-id", "req_7"), ("Content-Length", "2")])
    return [b"ok"]
"""

# A worker that gets a signal before it listens to signals never hears of it.
CONFIGURATION = """
from gevent import monkey
monkey.patch_all()

def post_worker_init(worker):
    worker.log.info("Worker ready")
"""


class Server:
    """gunicorn with two gevent workers; the files it writes."""

    def __init__(self, folder: Path, **settings: str) -> None:
        (folder / "tiny.py").write_text(APP)
        (folder / "gunicorn.conf.py").write_text(CONFIGURATION)
        self.logs = folder / "logs"
        given = {f"DEEPSEEK_PROXY_{name.upper()}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "gunicorn", "tiny:app", "--bind=127.0.0.1:0", "--workers=2"]
        command += [
            "--worker-class=gevent",
            "--logger-class=deepseek_proxy.ops.gunicorn_logger.GunicornLogger",
        ]
        command += ["--no-control-socket"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "DEEPSEEK_PROXY_LOG_DIR": str(self.logs), **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self, name: str) -> list[dict[str, object]]:
        try:
            return [json.loads(line) for line in (self.logs / name).read_bytes().split(b"\n") if line]
        except FileNotFoundError:
            return []

    def wait_for(self, name: str, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """The matches of `pattern` in the messages of a file, once there are `count` of them."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [m for line in self.lines(name) if (m := re.search(pattern, str(line["message"])))]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} is not in {name}: {self.lines(name)}")

    def get(self, path: str) -> int:
        port = int(self.wait_for("gateway.log", r"Listening at: http://127.0.0.1:(\d+)")[0][1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            headers = {
                "User-Agent": "codex_cli_rs/0.9 " + "x" * 300,
                "Authorization": f"Bearer {KEY}",
                "X-Prompt": PROMPT,
            }
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=20)[0]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.wait_for("gateway.log", "Worker ready", 2)
    yield server
    server.process.kill()
    server.process.communicate()


def test_both_logs_have_our_form_and_hold_no_secret(server):
    assert server.get(f"/v1/models?api_key={KEY}&token=geheim") == 200
    assert server.get("/breaks?token=geheim") == 500
    server.wait_for("access.log", "GET /v1/models 200")
    server.wait_for("gateway.log", r"Error handling request .*/breaks\?…")
    output = server.end()

    (visit,) = [line for line in server.lines("access.log") if line["path"] == "/v1/models"]
    for name, expected in {
        "level": "info",
        "logger": "gunicorn.access",
        "message": "GET /v1/models 200",
        "request_id": "req_7",
        "client": "127.0.0.1",
        "method": "GET",
        "status": 200,
        "sent_bytes": 2,
        "user_agent": "codex_cli_rs/0.9 " + "x" * 183,
    }.items():
        assert visit[name] == expected
    section = PAGE.read_text().split("## The line of gunicorn's access log")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert [name for name in visit if name not in ("time", "level", "logger", "pid", "message")] == listed

    written = "".join(path.read_text() for path in server.logs.iterdir()) + output
    for secret in (KEY, KEY[3:], "geheim", PROMPT):
        assert secret not in written
    assert "in app" in written
    messages = [str(line["message"]) for line in server.lines("gateway.log")]
    assert sum("Booting worker" in message for message in messages) == 2
    assert output == "", "with a log folder, a pipe gets nothing"


def test_a_reload_and_a_reopening_go_on_in_the_same_files(server):
    assert server.get("/one") == 200
    server.wait_for("access.log", "/one")
    (server.logs / "access.log").rename(server.logs / "moved")
    server.process.send_signal(signal.SIGUSR1)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("gateway.log", "Worker ready", 4)
    server.wait_for("gateway.log", "Worker exiting", 2)
    assert server.get("/two") == 200
    server.wait_for("access.log", "/two")
    assert [line["path"] for line in server.lines("access.log")] == ["/two"]


def test_wrong_settings_end_the_start_with_their_names(tmp_path):
    server = Server(tmp_path, port="none")
    output, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert "Error: port" in output
    assert "Traceback" not in output

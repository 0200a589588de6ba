"""Where lines go, what they look like, and that none is lost however many write at once."""

import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from deepseek_proxy.ops import logs
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.settings import Settings, SettingsError

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"
KEY = "sk-0123456789abcdef0123456789abe78f"
RECORD = RequestRecord(
    request_id="req_1", dialect="responses", method="POST", path="/v1/100%s", status=200, duration_seconds=0.5
)
FAILED = RequestRecord(
    request_id="req_2",
    dialect="chat",
    method="POST",
    path="/x",
    status=502,
    duration_seconds=1,
    error_code="bad",
)


@pytest.fixture(autouse=True)
def _restored():
    """Takes the handlers away again and gives every touched logger its level back."""
    touched = [
        logging.getLogger(name) for name in ("", "deepseek_proxy", "gunicorn.error", "gunicorn.access")
    ]
    before = [(log.level, log.propagate) for log in touched]
    yield
    logs.close()
    for log, (level, propagate) in zip(touched, before, strict=True):
        log.setLevel(level)
        log.propagate = propagate


def lines(path: Path) -> list[dict[str, object]]:
    *whole, rest = path.read_bytes().split(b"\n")
    assert rest == b""
    return [json.loads(line) for line in whole]


def test_a_request_is_one_line_of_json(tmp_path):
    logs.configure(Settings(log_dir=tmp_path))
    logs.log_request(RECORD)
    logs.close()
    (line,) = lines(tmp_path / "gateway.log")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert line.pop("pid") == os.getpid()
    assert line == {
        "level": "info",
        "logger": "deepseek_proxy.requests",
        "message": "POST /v1/100%s 200 in 0.50 s",
        **RECORD.line(),
    }


def test_a_failure_is_a_warning(tmp_path):
    logs.configure(Settings(log_dir=tmp_path, log_level="warning"))
    logs.log_request(RECORD)
    logs.log_request(FAILED)
    assert [(line["level"], line["request_id"]) for line in lines(tmp_path / "gateway.log")] == [
        ("warning", "req_2")
    ]


def test_every_logger_ends_in_its_file(tmp_path):
    logs.configure(Settings(log_dir=tmp_path))
    logging.getLogger("deepseek_proxy.upstream.client").info("ours")
    logging.getLogger("gunicorn.error").info("gunicorn's")
    logging.getLogger("urllib3.connectionpool").info("a library's chatter")
    logging.getLogger("urllib3.connectionpool").warning("a library's warning")
    logging.getLogger("gunicorn.access").info("a visit")
    logs.close()
    written = [line["message"] for line in lines(tmp_path / "gateway.log")]
    assert written == ["ours", "gunicorn's", "a library's warning"]
    assert [line["message"] for line in lines(tmp_path / "access.log")] == ["a visit"]


def test_debug_lines_need_the_level(tmp_path):
    for level in ("info", "debug"):
        logs.configure(Settings(log_dir=tmp_path, log_level=level))
        logging.getLogger("deepseek_proxy.x").debug("at %s", level)
    assert [line["message"] for line in lines(tmp_path / "gateway.log")] == ["at debug"]


def test_configuring_again_replaces_and_never_doubles(tmp_path):
    for folder in ("a", "b", "b"):
        logs.configure(Settings(log_dir=tmp_path / folder))
    logging.getLogger("deepseek_proxy").info("once")
    logging.getLogger("gunicorn.access").info("once")
    logs.close()
    assert not (tmp_path / "a" / "gateway.log").exists()
    assert len(lines(tmp_path / "b" / "gateway.log")) == len(lines(tmp_path / "b" / "access.log")) == 1


def test_handlers_of_others_stay(tmp_path):
    stranger = logging.NullHandler()
    logging.getLogger().addHandler(stranger)
    try:
        logs.configure(Settings(log_dir=tmp_path))
        logs.close()
        assert stranger in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(stranger)


def test_no_secret_reaches_any_output(tmp_path, capsys):
    settings = Settings(log_dir=tmp_path, log_stderr="always", deepseek_api_key="an-odd-key-of-words")
    logs.configure(settings, secrets=["read-from-a-file"])
    logger = logging.getLogger("deepseek_proxy.test")
    try:
        raise ConnectionError(f"Bearer {KEY} an-odd-key-of-words")
    except ConnectionError:
        logger.exception("%s read-from-a-file", KEY, extra={"headers": {"Authorization": KEY}, "k": KEY})
    logging.getLogger("gunicorn.access").info("GET /?key=%s", KEY)
    written = "".join(path.read_text() for path in tmp_path.iterdir()) + capsys.readouterr().err
    for secret in (KEY, KEY[3:], "an-odd-key-of-words", "read-from-a-file"):
        assert secret not in written
    assert written.count("ConnectionError: Bearer sk-…e78f") == 2


def test_messages_of_exceptions_are_shown_only_with_bodies(tmp_path):
    for bodies in (False, True):
        logs.configure(Settings(log_dir=tmp_path, log_bodies=bodies))
        try:
            raise ValueError("what the user wrote")
        except ValueError:
            logging.getLogger("deepseek_proxy").exception("failed")
    hidden, shown = (str(line["exception"]) for line in lines(tmp_path / "gateway.log"))
    assert hidden.endswith("\nValueError")
    assert shown.endswith("\nValueError: what the user wrote")


@pytest.mark.parametrize("value", ["\ud800", 2**70, {"deep": ["\udfff"]}, object()])
def test_what_json_and_terminals_cannot_say_costs_no_line(value):
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "odd \udc80", "value": value})
    line = logs.JsonFormatter().format(record)
    assert line.isascii()
    assert json.loads(line)["message"] == "odd \udc80"
    assert "value" in json.loads(line)
    assert "odd \\udc80 value=" in logs.TerminalFormatter().format(record).encode().decode()


def test_a_line_is_one_line(tmp_path):
    logs.configure(Settings(log_dir=tmp_path))
    logging.getLogger("deepseek_proxy").info("a\nb\r\u2028c\x1b[31mred\x1b[0m")
    (line,) = lines(tmp_path / "gateway.log")
    assert line["message"] == "a\nb\r\u2028cred"


# -- stderr ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_stderr", "with_folder", "expected"),
    [("auto", True, 0), ("auto", False, 1), ("always", True, 1), ("never", True, 0), ("never", False, 0)],
)
def test_stderr_that_is_a_pipe(tmp_path, capfd, log_stderr, with_folder, expected):
    logs.configure(Settings(log_dir=tmp_path if with_folder else None, log_stderr=log_stderr))
    logging.getLogger("deepseek_proxy").warning("hello")
    err = capfd.readouterr().err
    assert err.count("hello") == expected
    for line in err.splitlines():
        assert json.loads(line)["message"] == "hello"


def test_a_journal_is_recognised_by_its_inode(tmp_path, capfd, monkeypatch):
    status = os.fstat(2)
    for stream, expected in ((f"{status.st_dev}:{status.st_ino}", 1), (f"{status.st_dev}:1", 0), ("", 0)):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        with os.fdopen(os.dup(2), "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            logs.configure(Settings(log_dir=tmp_path))
            logging.getLogger("deepseek_proxy").info("hello")
            logs.close()
        assert capfd.readouterr().err.count("hello") == expected


TERMINAL = """
import logging
from deepseek_proxy.ops import logs
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.settings import Settings

logs.configure(Settings(log_dir=None))
logs.log_request(RequestRecord(
    request_id="req_1", dialect="chat", method="POST", path="/v1/x\\x1b[2J", status=200, duration_seconds=1,
    upstream_model="deepseek-flash"))
logs.log_request(RequestRecord(
    request_id="req_3", dialect="chat", method="POST", path="/v1/x", status=502, duration_seconds=1))
try:
    raise OSError("broken\\x07\\npipe")
except OSError:
    logging.getLogger("deepseek_proxy").exception("a\\nb", extra={"request_id": "req_2"})
"""


def test_a_terminal_gets_sentences_and_no_control_characters():
    primary, secondary = os.openpty()
    subprocess.run([sys.executable, "-c", TERMINAL], stderr=secondary, check=True, timeout=30)
    os.close(secondary)
    with os.fdopen(primary, "rb") as terminal:
        first, failed, second, *traceback = terminal.read1(65536).decode().split("\r\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d info    POST /v1/x\\x1b\[2J 200 in 1\.00 s, deepseek-flash", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning POST /v1/x 502 in 1\.00 s request_id=req_3", failed)
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   a\\nb request_id=req_2", second)
    assert traceback[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in traceback if line)
    assert r"OSError: broken\x07" in traceback[-3]


# -- files ----------------------------------------------------------------------------------------


def test_files_are_for_the_owner_and_the_group(tmp_path):
    logs.configure(Settings(log_dir=tmp_path / "logs" / "here"))
    logging.getLogger("deepseek_proxy").info("x")
    assert (tmp_path / "logs" / "here" / "gateway.log").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_made_is_a_mistake_in_the_settings(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"log_dir: .*file/logs cannot be created"):
        logs.configure(Settings(log_dir=tmp_path / "file" / "logs"))


def test_old_files_are_limited(tmp_path):
    logs.configure(Settings(log_dir=tmp_path, log_max_bytes=1000, log_backups=2))
    for number in range(100):
        logging.getLogger("deepseek_proxy").info("line %d", number)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {"gateway.log", "gateway.log.1", "gateway.log.2"}
    assert lines(tmp_path / "gateway.log")[-1]["message"] == "line 99"


def test_a_file_moved_by_another_program_is_opened_anew(tmp_path):
    logs.configure(Settings(log_dir=tmp_path))
    logging.getLogger("deepseek_proxy").info("before")
    (tmp_path / "gateway.log").rename(tmp_path / "gateway.log.old")
    logging.getLogger("deepseek_proxy").info("after")
    assert [line["message"] for line in lines(tmp_path / "gateway.log")] == ["after"]


WRITER = """
import sys

kind, folder, writers, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if kind == "gevent":
    from gevent import monkey
    monkey.patch_all()

import os, threading, time
from deepseek_proxy.ops import logs
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.settings import Settings

settings = Settings(log_dir=folder, log_max_bytes=20_000, log_backups=1000, log_stderr="never")

def record(name):
    return RequestRecord(
        request_id=name, dialect="chat", method="POST", path="/v1/x", status=200, duration_seconds=0.1)

def write(thread):
    for number in range(count // 10):
        logs.log_request(record(f"{os.getpid()}-{thread}-{number}"))
        if number % 7 == 0:
            time.sleep(0)  # under gevent: another greenlet's turn

def work():
    open(f"{folder}/ready.{os.getpid()}", "w").close()
    while len([name for name in os.listdir(folder) if name.startswith("ready.")]) < writers:
        time.sleep(0.005)  # so that all write at the same time
    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logs.close()  # as a process does at its end, were it not for os._exit

logs.configure(settings)
if kind == "forked":
    logs.log_request(record("before the fork"))  # the files are open now
    children = []
    for _ in range(writers):
        if (child := os.fork()) == 0:
            work()
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * writers
else:
    work()
"""
WRITERS, LINES = 4, 600


def run_writers(folder: Path, kind: str, processes: int) -> None:
    command = [sys.executable, "-c", WRITER, kind, str(folder), str(WRITERS), str(LINES)]
    writers = [subprocess.Popen(command) for _ in range(processes)]
    try:
        assert [writer.wait(60) for writer in writers] == [0] * processes
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


# The third way is gunicorn's: the arbiter opens the files, and its workers inherit them open.
@pytest.mark.parametrize(("kind", "processes"), [("threads", 4), ("gevent", 4), ("forked", 1)])
def test_no_line_is_lost_when_four_workers_rotate_at_once(tmp_path, kind, processes):
    run_writers(tmp_path, kind, processes)
    pids = [path.suffix[1:] for path in tmp_path.glob("ready.*")]
    assert len(pids) == WRITERS
    files = list(tmp_path.glob("gateway.log*"))
    assert len(files) > 10, "the files were never rotated"
    seen = Counter(line["request_id"] for path in files for line in lines(path))
    seen.pop("before the fork", None)
    assert set(seen) == {
        f"{pid}-{thread}-{n}" for pid in pids for thread in range(10) for n in range(LINES // 10)
    }
    assert set(seen.values()) == {1}


def test_the_page_lists_the_fields_of_every_line():
    section = PAGE.read_text().split("## Every line")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    record = logging.makeLogRecord(
        {"levelname": "INFO", "exc_text": "Traceback", "stack_info": "Stack", "msg": "x"}
    )
    assert list(json.loads(logs.JsonFormatter().format(record))) == listed

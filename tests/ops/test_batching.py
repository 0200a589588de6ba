"""Lines that wait for others are written soon, in order, and never lost behind a bad one."""

import logging

import pytest
from harness.waiting import wait_for

from deepseek_proxy.ops import batching
from deepseek_proxy.ops.batching import BatchingHandler


class Writes(logging.Handler):
    """Remembers what was written, one entry for each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.closed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def writes():
    return Writes()


@pytest.fixture
def handler(writes):
    made = BatchingHandler(writes, patient={"patient"})
    made.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    yield made
    made.close()


def say(handler: logging.Handler, name: str, message: str, level: int = logging.INFO) -> None:
    handler.handle(logging.makeLogRecord({"name": name, "msg": message, "levelno": level}))


def test_lines_of_the_patient_are_written_together_and_soon(handler, writes):
    for message in "abc":
        say(handler, "patient", message)
    assert writes.written == []
    wait_for(lambda: writes.written, 5)
    assert writes.written == ["patient: a\npatient: b\npatient: c"]
    say(handler, "patient", "d")
    handler.flush()
    assert writes.written[1:] == ["patient: d"]


@pytest.mark.parametrize(("name", "level"), [("other", logging.INFO), ("patient", logging.WARNING)])
def test_what_cannot_wait_takes_along_what_waits(handler, writes, name, level):
    say(handler, "patient", "first")
    say(handler, name, "now", level)
    assert writes.written == [f"patient: first\n{name}: now"]


def test_no_more_waits_than_a_bound(handler, writes):
    for _ in range(batching.MAX_WAITING):
        say(handler, "patient", "x")
    assert len(writes.written) == 1


def test_closing_writes_what_waits(handler, writes):
    say(handler, "patient", "last")
    handler.close()
    assert writes.written == ["patient: last"]
    assert writes.closed


def test_the_filters_of_the_target_see_each_record(handler, writes):
    writes.addFilter(lambda record: record.msg != "secret")
    say(handler, "patient", "secret")
    say(handler, "patient", "plain")
    handler.flush()
    assert writes.written == ["patient: plain"]


def test_a_record_that_cannot_be_formatted_costs_only_itself(handler, writes, capsys):
    handler.handle(logging.makeLogRecord({"name": "other", "msg": "%d", "args": ("no number",)}))
    say(handler, "other", "after")
    assert writes.written == ["other: after"]
    assert "no number" in capsys.readouterr().err

"""The numbers are right, in one process and in several; their labels are bounded; their page is complete."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from deepseek_proxy.errors import RateLimited, UpstreamTimeout
from deepseek_proxy.models import MODELS
from deepseek_proxy.ops.metrics import Level, Metrics, dialect_label, mark_dead, model_label, prepare_folder
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.upstream.overview import LEVELS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

RECORD = RequestRecord(
    request_id="req_1",
    dialect="responses",
    method="POST",
    path="/v1/responses",
    status=200,
    duration_seconds=12,
    model="gpt-5",
    upstream_model="deepseek-flash",
    stream=True,
    first_token_seconds=0.4,
    input_tokens=1200,
    cached_tokens=1000,
    output_tokens=300,
    reasoning_tokens=120,
    searches=3,
    cost_usd=0.000213,
    cache_saved_usd=0.000147,
    finish="stop",
    heartbeats=2,
    client_gone=True,
    attempts=3,
    account="main",
    repairs={"orphan_result": 2, "missing_result": 1},
    unknown_fields=("a", "b"),
)


def samples(metrics: Metrics) -> dict[str, float]:
    """`name{label="value",…}` -> value, without the prefix."""
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('deepseek_proxy_')}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def test_a_request_is_counted_in_every_series(metrics):
    metrics.observe_request(RECORD)
    metrics.observe_request(RECORD)
    found = samples(metrics)
    both = "dialect=responses,model=deepseek-flash"
    for name, value in {
        f"requests_total{{{both},status=200}}": 2,
        f"first_token_seconds_count{{{both}}}": 2,
        f"first_token_seconds_sum{{{both}}}": 0.8,
        "first_token_seconds_bucket{dialect=responses,le=0.25,model=deepseek-flash}": 0,
        "first_token_seconds_bucket{dialect=responses,le=0.5,model=deepseek-flash}": 2,
        f"stream_seconds_sum{{{both}}}": 24,
        "tokens_total{kind=cache_hit,model=deepseek-flash}": 2000,
        "tokens_total{kind=cache_miss,model=deepseek-flash}": 400,
        "tokens_total{kind=reasoning,model=deepseek-flash}": 240,
        "tokens_total{kind=output,model=deepseek-flash}": 360,
        "searches_total{}": 6,
        "cost_usd_total{model=deepseek-flash}": 0.000426,
        "cache_saved_usd_total{model=deepseek-flash}": 0.000294,
        "retries_total{}": 4,
        "heartbeats_total{}": 4,
        "client_departures_total{dialect=responses}": 2,
        "history_repairs_total{kind=orphan_result}": 4,
        "history_repairs_total{kind=missing_result}": 2,
        "unknown_fields_total{dialect=responses}": 4,
    }.items():
        assert found[name] == pytest.approx(value), name


def test_a_refused_request_is_counted_and_nothing_else(metrics):
    metrics.observe_request(
        RequestRecord(
            request_id="r", dialect="chat", method="POST", path="/", status=401, duration_seconds=0.1
        )
    )
    found = {name: value for name, value in samples(metrics).items() if value}
    assert found == {"requests_total{dialect=chat,model=none,status=401}": 1}


def test_an_answer_in_one_piece_is_no_stream(metrics):
    metrics.observe_request(replace(RECORD, stream=False, first_token_seconds=None))
    assert not [name for name in samples(metrics) if name.startswith(("stream_seconds", "first_token"))]


def test_upstream_errors_are_counted_by_their_class(metrics):
    for error in (RateLimited("x"), UpstreamTimeout("x"), UpstreamTimeout("y")):
        metrics.upstream_failed(error)
    found = samples(metrics)
    assert found["upstream_errors_total{kind=rate_limited}"] == 1
    assert found["upstream_errors_total{kind=upstream_timeout}"] == 2


def test_seals_that_do_not_open_are_counted(metrics):
    metrics.seal_failed("foreign")
    assert samples(metrics)["seal_failures_total{reason=foreign}"] == 1


def test_a_stream_is_open_until_it_ends_or_breaks(metrics):
    with metrics.open_stream(), metrics.open_stream():
        assert samples(metrics)["open_streams{}"] == 2
    with pytest.raises(ValueError, match="broken"), metrics.open_stream():
        raise ValueError("broken")
    assert samples(metrics)["open_streams{}"] == 0


def test_so_is_a_websocket(metrics):
    with metrics.open_websocket(), metrics.open_websocket():
        assert samples(metrics)["open_websockets{}"] == 2
    assert samples(metrics)["open_websockets{}"] == 0


def test_no_label_grows_with_what_clients_send(metrics):
    for number in range(50):
        metrics.observe_request(
            replace(
                RECORD,
                dialect=f"d{number}",
                model=f"m{number}",
                upstream_model=f"u{number}",
                request_id=f"r{number}",
                path=f"/p{number}",
                unknown_fields=(f"f{number}",),
                finish=f"x{number}",
            )
        )
    found = samples(metrics)
    assert found["requests_total{dialect=other,model=other,status=200}"] == 50
    assert len([name for name in found if name.startswith("requests_total")]) == 1
    assert not re.search(r"[dmurpfx]\d", " ".join(found).replace("le=", ""))


def test_labels_are_known_names():
    assert [model_label(name) for name in (*MODELS, "gpt-5", "", None)] == [*MODELS, "other", "other", "none"]
    names = ("responses", "chat", "messages", "models", "x")
    assert [dialect_label(name) for name in names] == ["responses", "chat", "messages", "models", "other"]


def test_two_applications_do_not_share_numbers():
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.observe_request(RECORD)
    assert samples(second)["retries_total{}"] == 0


def test_without_several_workers_a_dead_one_is_no_matter(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    mark_dead(12345)


# -- several workers ------------------------------------------------------------------------------

WORKER = """
import json, sys
from deepseek_proxy.ops.metrics import Metrics, mark_dead
from deepseek_proxy.ops.record import RequestRecord
assert "prometheus_client" not in sys.modules, "imported too early to be told about several workers"
from prometheus_client import CollectorRegistry
from deepseek_proxy.errors import RateLimited

metrics = Metrics(CollectorRegistry())
streams = []
for line in sys.stdin:
    order = json.loads(line)
    if "record" in order:
        metrics.observe_request(RequestRecord(**order["record"]))
        metrics.upstream_failed(RateLimited("x"))
        metrics.seal_failed("foreign")
    elif "open" in order:
        streams.append(metrics.open_stream())
        streams[-1].__enter__()
    elif "dead" in order:
        mark_dead(order["dead"])
    print(json.dumps(metrics.render()[0].decode()), flush=True)
"""


class Worker:
    """A process with metrics of its own, in the folder of all."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **order: object) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def workers(tmp_path):
    both = Worker(tmp_path), Worker(tmp_path)
    yield both
    for worker in both:
        worker.kill()


def value(text: str, name: str) -> float:
    (found,) = re.findall(rf"^deepseek_proxy_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


def names(text: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_any_worker_answers_for_all_and_the_dead_have_no_streams(workers, metrics):
    first, second = workers
    record = {name: getattr(RECORD, name) for name in RECORD.__dataclass_fields__}
    first.tell(record=record)
    first.tell(open=1)
    second.tell(open=1)
    second.tell(open=1)
    text = second.tell(record=record)
    assert text == first.tell()
    requests = 'requests_total{dialect="responses",model="deepseek-flash",status="200"}'
    assert value(text, requests) == 2
    assert value(text, "retries_total") == 4
    assert value(text, "open_streams") == 3
    bucket = 'first_token_seconds_bucket{dialect="responses",le="0.5",model="deepseek-flash"}'
    assert value(text, bucket) == 2

    metrics.observe_request(RECORD)
    metrics.upstream_failed(RateLimited("x"))
    metrics.seal_failed("foreign")
    assert names(text) == names(metrics.render()[0].decode())

    second.kill()
    text = first.tell(dead=second.process.pid)
    assert value(text, "open_streams") == 1
    assert value(text, requests) == 2, "what a worker has counted outlives it"
    assert value(text, bucket) == 2


def test_workers_that_ended_leave_one_file_of_each_kind(tmp_path, monkeypatch):
    """However often workers are replaced, the folder does not grow and nothing is counted twice."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    record = {name: getattr(RECORD, name) for name in RECORD.__dataclass_fields__}
    for _ in range(3):
        worker = Worker(tmp_path)
        worker.tell(record=record)
        worker.kill()
        mark_dead(worker.process.pid)
        mark_dead(worker.process.pid)
    assert {file.name for file in tmp_path.iterdir()} == {"counter_ended.db", "histogram_ended.db"}
    last = Worker(tmp_path)
    text = last.tell(record=record)
    last.kill()
    assert value(text, "retries_total") == 8
    assert value(text, 'cost_usd_total{model="deepseek-flash"}') == pytest.approx(4 * 0.000213)
    count = value(text, 'first_token_seconds_count{dialect="responses",model="deepseek-flash"}')
    assert count == value(
        text, 'first_token_seconds_bucket{dialect="responses",le="+Inf",model="deepseek-flash"}'
    )
    assert count == 4


def test_a_folder_that_is_gone_costs_the_server_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    mark_dead(12345)


def test_the_folder_is_made_or_the_operators_own_is_emptied(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    made = prepare_folder(str(tmp_path))
    assert made == os.environ["PROMETHEUS_MULTIPROC_DIR"]
    assert Path(made).parent == tmp_path
    (Path(made) / "counter_1.db").write_bytes(b"of the server that starts this one")
    assert prepare_folder(str(tmp_path)) not in (None, made)
    assert (Path(made) / "counter_1.db").exists()

    own = tmp_path / "own"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(own))
    assert prepare_folder(str(tmp_path)) is None
    (own / "counter_1.db").write_bytes(b"of yesterday")
    (own / "notes.txt").write_text("not ours")
    assert prepare_folder(str(tmp_path)) is None
    assert [file.name for file in own.iterdir()] == ["notes.txt"]


def test_the_page_lists_every_series_with_its_type_and_labels(metrics):
    metrics.observe_request(RECORD)
    metrics.upstream_failed(RateLimited("x"))
    metrics.seal_failed("foreign")
    levels = [Level(name, text, dict.fromkeys(labels, "x"), 1) for name, (text, labels) in LEVELS.items()]
    exposed = {}
    for family in text_string_to_metric_families(metrics.render(levels)[0].decode()):
        name = family.name + "_total" if family.type == "counter" else family.name
        exposed[name] = (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
    listed = {}
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"\| `(deepseek_proxy_\w+)` \| (\w+) \|([^|]*)\|", line):
            listed[found[1]] = (found[2], set(re.findall(r"`(\w+)`", found[3])))
    assert listed == exposed

"""A real run's metrics: on its node's /metrics page, and in a Prometheus that scrapes it by Ray's own configuration."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sweep.monitor.prometheus import METRICS
from sweep.record.store import Store
from tests.e2e.conftest import command, environment
from tests.monitoring import MONITORING, exported, expressions, filled_in

# The project's own way to start Ray, token authentication on; it lives until its standard input closes.
START = """
import sys
from sweep.cluster.connect import connect
with connect(None) as cluster:
    import ray
    (node,) = ray.nodes()
    print(ray.get_runtime_context().gcs_address, node["NodeManagerAddress"], node["MetricsExportPort"], flush=True)
    sys.stdin.read()
"""
STUDY = ("quickstart", "--train-size", "400", "--epochs", "4", "--width", "0.1", "--protocol", "paper")
RATES = tuple(f"{0.001 * number:g}" for number in range(1, 151))
"""More than are tried: the run is interrupted once enough was seen."""
PAGES = 30
"""At least a second apart: longer than Ray keeps a gauge that is not set again."""
CELLS = ("model-c", "all-cnn-c")
Series = dict[tuple[str, ...], float]


def series(page: str) -> Series:
    """Return the numbers of the run `watched` on a /metrics page, by name and the tags that are not `run`."""
    found: Series = {}
    for name, labels, value in re.findall(r"^(ray_sweep_\w+)\{(.*)\} (\S+)$", page, flags=re.MULTILINE):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if tags["run"] == "watched":
            key = (name, *(tags[tag] for tag in ("cell", "state") if tag in tags))
            found[key] = float(value)
    return found


@dataclass
class Watched:
    """A run that has ended, and what could be seen of it while it went on."""

    store: Store
    said: str
    pages: list[Series] = field(default_factory=list)
    last_page: Series = field(default_factory=dict)
    status_without_token: int = 0
    answers: dict[str, list[Any]] = field(default_factory=dict)
    """What Prometheus had by expression, the last answer that was not empty."""
    refused: list[str] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} in {seconds} s"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(url: str) -> bool:
    try:
        get(url)
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    tmp_path = tmp_path_factory.mktemp("watched")
    # A folder of its own, short enough for Ray's sockets: other sessions of the machine are none of this test's.
    # Its processes may still write there when the run has ended.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray_folder:
        variables = environment() | {"RAY_TMPDIR": ray_folder}
        cluster = subprocess.Popen(
            [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        assert cluster.stdout is not None
        started: list[subprocess.Popen[Any]] = []
        try:
            address, host, port = cluster.stdout.readline().split()
            (session,) = Path(ray_folder).glob("ray/session_2*")
            prometheus = start_prometheus(session, tmp_path, started)
            yield watch(address, f"http://{host}:{port}/metrics", prometheus, tmp_path, started)
        finally:
            for process in started:
                process.terminate()
                process.wait()
            cluster.communicate("")


def start_prometheus(session: Path, tmp_path: Path, started: list[subprocess.Popen[Any]]) -> str | None:
    """Start Prometheus by the session's own configuration and our rules; return its address, None without one."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    written = session / "metrics" / "prometheus" / "prometheus.yml"
    wait_for(written.exists, "configuration by Ray")
    config = tmp_path / "prometheus.yml"
    config.write_text(written.read_text() + f"\nrule_files:\n- '{MONITORING / 'alerts.yml'}'\n")
    address = f"127.0.0.1:{free_port()}"
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=warn"]
    started.append(subprocess.Popen([program, *arguments, f"--web.listen-address={address}"], cwd=tmp_path))
    wait_for(lambda: answers(f"http://{address}/-/ready"), "Prometheus")
    return f"http://{address}"


def watch(
    address: str, page: str, prometheus: str | None, tmp_path: Path, started: list[subprocess.Popen[Any]]
) -> Watched:
    options = ("--variants", *CELLS, "--learning-rates", *RATES, "--name", "watched", "--address", address)
    output = tmp_path / "said.txt"
    with output.open("w") as file:
        run = subprocess.Popen(
            command(tmp_path, *STUDY, *options), stdout=file, stderr=subprocess.STDOUT, env=environment()
        )
    started.append(run)
    seen = Watched(store=Store(str(tmp_path / "watched")), said="")
    end = time.monotonic() + 300
    while run.poll() is None and not enough(seen, prometheus) and time.monotonic() < end:
        seen.pages.append(series(get(page)))
        if prometheus is not None:
            ask(prometheus, seen)
        time.sleep(1)
    run.send_signal(signal.SIGINT)
    run.wait(timeout=120)
    assert run.returncode in (0, 130), output.read_text()
    seen.said = output.read_text()
    with urllib.request.urlopen(page) as answer:
        seen.status_without_token = answer.status
        seen.last_page = series(answer.read().decode())
    if prometheus is not None:
        rules = json.loads(get(f"{prometheus}/api/v1/rules"))["data"]["groups"]
        seen.rules = [rule for group in rules for rule in group["rules"]]
        seen.targets = json.loads(get(f"{prometheus}/api/v1/targets"))["data"]["activeTargets"]
    return seen


def enough(seen: Watched, prometheus: str | None) -> bool:
    shown = [page for page in seen.pages if page]
    has_completed = bool(shown) and shown[-1]["ray_sweep_trials", "completed"] > 0
    has_answers = prometheus is None or not unanswered(seen)
    return len(shown) >= PAGES and has_completed and has_answers


def unanswered(seen: Watched) -> set[str]:
    """Return the panels' expressions that had no answer, where a run without loss or GPU should have one."""
    missing = (expression for expression in expressions() if expression not in seen.answers)
    return {
        expression
        for expression in missing
        if "ray_node_failure_total" not in expression and "ray_node_gpus_utilization" not in expression
    }


def ask(prometheus: str, seen: Watched) -> None:
    for expression in (*(exported(metric) for metric in METRICS), *expressions()):
        query = urllib.parse.urlencode({"query": filled_in(expression, "watched")})
        try:
            answer = json.loads(get(f"{prometheus}/api/v1/query?{query}"))
        except urllib.error.HTTPError as error:
            seen.refused.append(f"{expression}: {error.read().decode()}")
            continue
        if answer["data"]["result"]:
            seen.answers[expression] = answer["data"]["result"]


@pytest.fixture
def prometheus(watched: Watched) -> Watched:
    if not watched.targets:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    return watched


def test_every_metric_is_on_the_nodes_page_while_the_run_goes_on(watched: Watched) -> None:
    names = {key[0] for page in watched.pages for key in page}
    assert names == {exported(metric) for metric in METRICS}
    # Once shown they stay, also gauges that do not change for long, which Ray by itself would forget.
    first = next(number for number, page in enumerate(watched.pages) if page)
    shown = watched.pages[first:]
    assert all(page["ray_sweep_planned_trials",] == len(CELLS) * len(RATES) for page in shown)
    for page in shown:
        assert {key[1] for key in page if key[0] == "ray_sweep_trials"} == {
            *("pending", "running", "completed", "stopped", "diverged", "failed")
        }


def test_what_the_page_showed_is_in_the_record(watched: Watched) -> None:
    epochs, rows = watched.store.read_epochs().to_pylist(), watched.store.read_trials().to_pylist()
    cells = {row["trial_id"]: f"shapes/none/{row['variant']}" for row in rows}
    errors = {(cells[epoch["trial_id"]], epoch["test_error"]) for epoch in epochs}
    best = {(*key[1:], value) for page in watched.pages for key, value in page.items() if "best_error" in key[0]}
    assert best
    assert best <= errors
    recorded = {("ray_sweep_epochs_total", cell): 0.0 for cell in cells.values()}
    for epoch in epochs:
        recorded["ray_sweep_epochs_total", cells[epoch["trial_id"]]] += 1
    counted = {key: value for key, value in watched.last_page.items() if key in recorded}
    assert counted == recorded
    last = max(page["ray_sweep_last_epoch_timestamp_seconds",] for page in watched.pages if page)
    first = min(page["ray_sweep_last_epoch_timestamp_seconds",] for page in watched.pages if page)
    assert last > first


def test_the_page_asks_nobody_for_a_token(watched: Watched) -> None:
    # Token authentication is on in this cluster; docs/monitoring.md says what follows.
    assert watched.status_without_token == 200


def test_a_run_that_joined_a_cluster_names_the_tunnel(watched: Watched) -> None:
    assert "from elsewhere  ray dashboard cluster.yaml" in watched.said
    assert re.search(r"ssh -L 8265:127\.0\.0\.1:\d+ HEAD\n", watched.said)


def test_prometheus_has_every_metric_of_the_run(prometheus: Watched) -> None:
    for metric in METRICS:
        found = prometheus.answers[exported(metric)]
        assert {point["metric"]["run"] for point in found} == {"watched"}
        assert all({*metric.tags, "SessionName"} <= set(point["metric"]) for point in found)
    cells = {point["metric"]["cell"] for point in prometheus.answers["ray_sweep_epochs_total"]}
    assert cells == {f"shapes/none/{variant}" for variant in CELLS}


def test_prometheus_answers_every_panel(prometheus: Watched) -> None:
    assert prometheus.refused == []
    assert unanswered(prometheus) == set()


def test_prometheus_evaluates_every_alert(prometheus: Watched) -> None:
    assert len(prometheus.rules) == 8
    assert {rule["health"] for rule in prometheus.rules} == {"ok"}
    firing = {rule["name"] for rule in prometheus.rules if rule["state"] == "firing"}
    assert not {name for name in firing if name.startswith("SweepNode")} - {
        *("SweepNodeMemoryNearlyFull", "SweepNodeDiskNearlyFull", "SweepNodeUnreachable")
    }
    assert not firing & {"SweepStalled", "SweepTrialsFailed", "SweepNotStarting", "SweepNodeLost"}

"""The watcher for a cloud's notice, against metadata services on loopback that behave as the clouds' do, or worse."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sweep.cluster import spot
from sweep.cluster.spot import Aws, Gcp, Notice, UnclearAnswerError, drain_node, fetch, watch
from tests.cluster.metadata import Answer as MetadataAnswer
from tests.cluster.metadata import Ec2, serving

ENDS = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
NOTICE = json.dumps({"action": "terminate", "time": "2030-01-02T03:04:05Z"})


def test_no_notice_then_one_from_ec2() -> None:
    notices: list[str | None] = [None, None, NOTICE]
    service = Ec2(lambda: notices.pop(0))
    with serving(service) as host:
        cloud = Aws(host)
        assert cloud.look() is None
        assert cloud.look() is None
        assert cloud.look() == Notice(said="EC2 will terminate this instance", ends_at=ENDS)
    assert not notices
    assert service.given == 1


def test_a_token_that_ran_out_is_renewed_at_once() -> None:
    notices: list[str | None] = [None, NOTICE]
    service = Ec2(lambda: notices.pop(0))
    with serving(service) as host:
        cloud = Aws(host)
        assert cloud.look() is None
        service.valid = "another"
        assert cloud.look() == Notice(said="EC2 will terminate this instance", ends_at=ENDS)
    assert service.given == 2


GARBAGE = [
    b"",
    b"<html>log in</html>",
    b"{}",
    b"[]",
    b"null",
    b'{"action": "terminate"}',
    b'{"action": "terminate", "time": "soon"}',
    b'{"action": "terminate", "time": 5}',
    b'{"action": null, "time": "2030-01-02T03:04:05Z"}',
    b'{"action": "a\\u0000b", "time": "2030-01-02T03:04:05Z"}',
    b"\xff\xfe\x00",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_notice_is_unclear(body: bytes) -> None:
    def handle(method: str, path: str, headers: dict[str, str]) -> MetadataAnswer:
        return 200, b"token" if method == "PUT" else body, {}

    with serving(handle) as host, pytest.raises(UnclearAnswerError, match="no notice can be read from"):
        Aws(host).look()


@pytest.mark.parametrize("status", [400, 403, 500, 503])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_status_that_says_nothing_is_unclear(status: int, method: str) -> None:
    def handle(asked: str, path: str, headers: dict[str, str]) -> MetadataAnswer:
        return (status, b"oh", {}) if asked == method else (200, b"token", {})

    with serving(handle) as host, pytest.raises(UnclearAnswerError, match=f"status {status} for "):
        Aws(host).look()


def test_a_token_that_is_refused_again_and_again_is_unclear() -> None:
    def handle(method: str, path: str, headers: dict[str, str]) -> MetadataAnswer:
        return (200, b"token", {}) if method == "PUT" else (401, b"", {})

    with serving(handle) as host, pytest.raises(UnclearAnswerError, match="status 401 for the notice"):
        Aws(host).look()


@pytest.mark.parametrize("token", [b"", b"two\r\nX-Header: lines", b"x" * 2000])
def test_a_token_that_cannot_be_a_header_is_unclear(token: bytes) -> None:
    with (
        serving(lambda method, path, headers: (200, token, {})) as host,
        pytest.raises(UnclearAnswerError, match="what came as a token is none"),
    ):
        Aws(host).look()


@pytest.mark.parametrize("make", [Aws, Gcp])
def test_a_service_that_hangs_up_or_is_not_there_is_unclear(make: type[Aws] | type[Gcp]) -> None:
    with serving(lambda *_: None) as host, pytest.raises(UnclearAnswerError, match="no answer"):
        make(host).look()
    with pytest.raises(UnclearAnswerError, match="no answer"):
        make(host).look()  # closed by now


def test_a_service_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "TIMEOUT_S", 0.2)
    done = threading.Event()

    def handle(method: str, path: str, headers: dict[str, str]) -> None:
        done.wait()

    with serving(handle) as host:
        with pytest.raises(UnclearAnswerError, match="no answer"):
            Aws(host).look()
        done.set()


def test_redirections_and_proxies_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: (200, NOTICE.encode(), {})) as elsewhere:
        monkeypatch.setenv("http_proxy", f"http://{elsewhere}")
        with (
            serving(lambda *_: (302, b"", {"Location": f"http://{elsewhere}/"})) as host,
            pytest.raises(UnclearAnswerError, match="status 302 for a token"),
        ):
            Aws(host).look()


def google(value: bytes, flavour: str = "Google") -> MetadataAnswer:
    return 200, value, {"Metadata-Flavor": flavour}


def test_compute_engine_is_asked_at_once_and_then_waited_for() -> None:
    paths: list[str] = []
    values = iter([b"FALSE", b"FALSE\n", b"TRUE"])

    def handle(method: str, path: str, headers: dict[str, str]) -> MetadataAnswer:
        paths.append(path)
        assert headers["metadata-flavor"] == "Google"
        return google(next(values))

    with serving(handle) as host:
        cloud = Gcp(host, clock=lambda: 1000.0)
        assert [cloud.look(), cloud.look()] == [None, None]
        assert cloud.look() == Notice(said="Compute Engine preempts this instance", ends_at=1030.0)
    at_once = "/computeMetadata/v1/instance/preempted"
    waiting = f"{at_once}?wait_for_change=true&timeout_sec=60"
    assert paths == [at_once, waiting, waiting]


def test_after_an_unclear_answer_compute_engine_is_asked_without_waiting() -> None:
    # The change may come and go in between: a question that waits for the next one would miss it.
    answers = iter([google(b"FALSE"), (503, b"", {}), google(b"TRUE")])
    paths: list[str] = []

    def handle(method: str, path: str, headers: dict[str, str]) -> MetadataAnswer:
        paths.append(path)
        return next(answers)

    with serving(handle) as host:
        cloud = Gcp(host)
        assert cloud.look() is None
        with pytest.raises(UnclearAnswerError):
            cloud.look()
        assert cloud.look() is not None
    assert ["wait_for_change" in path for path in paths] == [False, True, False]


@pytest.mark.parametrize("answer", [google(b"TRUE", "Other"), google(b"maybe"), google(b""), (404, b"", {})])
def test_what_is_no_answer_of_compute_engines_is_unclear(answer: MetadataAnswer) -> None:
    with serving(lambda *_: answer) as host, pytest.raises(UnclearAnswerError):
        Gcp(host).look()


class Script:
    """A cloud that answers as written down, and a clock that only sleeping moves."""

    pause_s = 5.0
    longest_pause_s = 15.0

    def __init__(self, *answers: Notice | UnclearAnswerError | None) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.slept: list[float] = []
        self.said: list[str] = []

    def look(self) -> Notice | None:
        answer = self.answers.pop(0)
        if isinstance(answer, UnclearAnswerError):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def watch(self, drain: Callable[[Notice], bool]) -> bool:
        return watch(self, drain, clock=lambda: self.now, sleep=self.sleep, say=self.said.append)


def test_the_node_is_drained_once_when_notice_comes() -> None:
    notice = Notice(said="it ends", ends_at=130.0)
    script = Script(None, None, notice)
    drained: list[Notice] = []
    assert script.watch(lambda given: not drained.append(given))  # type: ignore[func-returns-value]
    assert drained == [notice]
    assert script.slept == [5.0, 5.0]
    assert script.said == ["notice: it ends, in 120 s", "drained: trials resume elsewhere"]


def test_while_nothing_clear_is_said_pauses_grow_to_a_bound_and_one_line_is_printed() -> None:
    unclear = [UnclearAnswerError("status 500 for the notice")] * 7
    script = Script(*unclear, None, Notice(said="it ends", ends_at=1000.0))
    assert script.watch(lambda _: True)
    assert script.slept == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 5.0]
    assert script.said[:2] == [
        "the metadata service must say whether there is a notice, got status 500 for the notice; asking on",
        "the metadata service answers again",
    ]


def test_a_cluster_that_does_not_accept_is_asked_until_the_end() -> None:
    script = Script(Notice(said="it ends", ends_at=20.0))
    tries: list[float] = []

    def drain(notice: Notice) -> bool:
        tries.append(script.now)
        return len(tries) == 9

    assert not script.watch(drain)
    assert tries == [0.0, 1.0, 3.0, 7.0, 15.0]
    assert script.said[-1].startswith("not drained in time")

    script, tries = Script(Notice(said="it ends", ends_at=200.0)), []
    assert script.watch(drain)
    assert len(tries) == 9


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """Return what is run from now on, in place of running it: a drain needs a cluster, which tests/e2e has."""
    run: list[tuple[list[str], dict[str, Any]]] = []

    def note(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        run.append((command, options))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    return run


def test_the_command_that_drains(commands: list[tuple[list[str], dict[str, Any]]]) -> None:
    notice = Notice(said="EC2 will terminate this instance", ends_at=1118.7)
    assert drain_node(notice, address="10.0.0.1:6379", node_id=None, clock=lambda: 1000.0)
    assert drain_node(notice, address="auto", node_id="ab" * 28, clock=lambda: 2000.0)
    (first, options), (second, _) = commands
    message = ["--reason-message", "EC2 will terminate this instance"]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", *message, "--deadline-remaining-seconds"]
    assert first[3:] == ["drain-node", "--address", "10.0.0.1:6379", *reason, "118"]
    assert options["env"]["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert options["env"]["RAY_AUTH_MODE"] == "token"
    # Past the end it is still said, with the least that Ray takes.
    assert second[3:] == ["drain-node", "--address", "auto", "--node-id", "ab" * 28, *reason, "1"]


def test_a_drain_that_fails_or_hangs_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notice = Notice(said="x", ends_at=0.0)
    ray = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(ray))
    assert not drain_node(notice, address="auto", node_id=None)  # no such program
    ray.write_text("#!/bin/sh\nexit 1\n")
    ray.chmod(0o755)
    assert not drain_node(notice, address="auto", node_id=None)
    ray.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(spot, "DRAIN_TIMEOUT_S", 0.2)
    assert not drain_node(notice, address="auto", node_id=None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "Parameter --provider requires an argument."),
        (["--provider", "azure"], 'Invalid value "azure" for --provider. Choose from: "aws", "gcp".'),
        (
            ["--provider", "gcp", "--address", "head"],
            "address must be HOST:PORT of a Ray cluster's head, or auto, got 'head'.",
        ),
        (["--provider", "aws", "--often"], "Unknown option: --often."),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spot.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert spot.main(["--help"]) == 0
    assert "--address" in capsys.readouterr().out


def test_a_notice_drains_once_and_is_printed_with_the_time(
    commands: list[tuple[list[str], dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Ec2(lambda: NOTICE)) as host:
        assert spot.run(Aws(host), "head:6379", "ab" * 28) == 0
    ((command, _),) = commands
    assert command[3:8] == ["drain-node", "--address", "head:6379", "--node-id", "ab" * 28]
    assert "UTC  notice: EC2 will terminate this instance, in " in capsys.readouterr().out


@pytest.mark.parametrize(("provider", "cloud"), [("aws", Aws), ("gcp", Gcp)])
def test_the_command_watches_the_service_of_its_provider_and_drains_the_node_that_runs_here(
    provider: str, cloud: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[tuple[object, ...]] = []
    monkeypatch.setattr(spot, "run", lambda *given: watched.append(given) or 1)  # type: ignore[func-returns-value]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert spot.main(["--provider", provider]) == 1
    ((given, address),) = watched
    assert (type(given), vars(given)["_host"], address) == (cloud, "169.254.169.254", "head:6379")


def test_an_answer_is_cut_at_a_size() -> None:
    with serving(lambda *_: (200, b"x" * 200_000, {})) as host:
        assert fetch(host, "GET", "/", {}) == (200, "x" * 65_536)

"""Which cluster a run joins, how large it can become, what its nodes must have."""

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.cluster import autoscaling as size
from sweep.cluster import connect
from sweep.cluster import runtime_env as code
from sweep.cluster.connect import ClusterChoice, find_cluster
from sweep.cluster.preflight import Answer, judge


@pytest.fixture
def no_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this machine no cluster's head, and return the file that would make it one."""
    bootstrap = tmp_path / "ray_bootstrap_config.yaml"
    monkeypatch.setattr(connect, "BOOTSTRAP", bootstrap)
    monkeypatch.setattr(size, "BOOTSTRAP", bootstrap)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return bootstrap


def test_the_option_comes_before_the_variable_and_that_before_the_head(
    no_head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_cluster(None) is None
    no_head.touch()
    found = find_cluster(None)
    assert found is not None
    assert (found.address, found.by) == ("auto", f"{no_head}, which ray up leaves on a cluster's head")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_cluster(None) == ClusterChoice(address="10.0.0.1:6379", by="RAY_ADDRESS")
    assert find_cluster("auto") == ClusterChoice(address="auto", by="--address")
    # Whatever the rest says.
    assert find_cluster("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_cluster(None) is None


HEAD = {"CPU": 0.0, "node:__internal_head__": 1.0}
SPOT, ON_DEMAND = {"CPU": 4, "GPU": 1}, {"CPU": 8, "GPU": 2}


@pytest.mark.parametrize(
    ("alive", "types", "workers", "expected"),
    [
        # From zero workers; the bound on all of them holds over those on each type, and the largest come first.
        ([HEAD], [(SPOT, 2), (ON_DEMAND, 1)], 9, ((0, 0), (8, 2), (4, 1), (4, 1))),
        ([HEAD], [(SPOT, 2), (ON_DEMAND, 1)], 2, ((0, 0), (8, 2), (4, 1))),
        ([HEAD | {"CPU": 2.0}], [({"CPU": 4}, 1)], 1, ((2, 0), (4, 0))),
        # All are up already.
        ([HEAD, SPOT, SPOT], [(SPOT, 2)], 2, ()),
        # A type that does not say what it has, as own machines.
        ([HEAD], [({}, 5)], 5, ()),
        ([HEAD], [(SPOT, 0)], 5, ()),
        ([HEAD], [(SPOT, 5)], 0, ()),
    ],
)
def test_how_large_a_cluster_can_become(
    alive: list[dict[str, float]], types: Any, workers: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert size.at_most(alive, types, workers) == expected


def test_the_description_on_the_head_is_read(no_head: Path) -> None:
    assert size.described([HEAD]) == ()
    no_head.write_text(
        "{max_workers: 3, head_node_type: head, available_node_types: {head: {resources: {CPU: 0}, max_workers: 0}, "
        "gpu: {resources: {CPU: 4, GPU: 1}}, big: {resources: {CPU: 8, GPU: 4}, max_workers: 1}}}"
    )
    assert size.described([HEAD]) == ((0, 0), (8, 4), (4, 1), (4, 1))


@pytest.mark.parametrize("text", ["", "[]", "{max_workers: 3}", "{: : }", "{max_workers: x, head_node_type: a}"])
def test_a_description_of_another_shape_says_nothing(no_head: Path, text: str) -> None:
    no_head.write_text(text)
    assert size.described([HEAD]) == ()


def submitted(monkeypatch: pytest.MonkeyPatch, runtime_env: dict[str, Any]) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": runtime_env}))


def test_code_is_sent_unless_the_job_has_sent_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    sent = code.shipped_code()
    assert sent is not None
    assert [Path(module).name for module in sent["py_modules"]] == ["search_spaces", "sweep", "trainables"]
    assert all((Path(module) / "__init__.py").is_file() for module in sent["py_modules"])
    submitted(monkeypatch, {"env_vars": {"A": "1"}})
    assert code.shipped_code() == sent
    submitted(monkeypatch, {"working_dir": "gcs://_ray_pkg_1.zip"})
    assert code.shipped_code() is None


def test_a_submitted_job_must_not_write_into_ray_s_copy_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = str(code.ROOT / "runs")
    code.check_output(inside)
    submitted(monkeypatch, {"working_dir": "gcs://_ray_pkg_1.zip"})
    code.check_output(str(tmp_path))
    code.check_output("s3://bucket/runs")
    with pytest.raises(ValueError, match="must") as caught:
        code.check_output(inside)
    assert str(caught.value) == (
        "output must be a folder of its own or a URI in a submitted job, since Ray deletes its copy of the working "
        f"directory, got {inside!r}; name one with --output."
    )


OURS: dict[str, str | None] = {"Python": "3.11.7", "torch": "2.14.1+cpu", "ray": "2.60.0"}
FINE = Answer(node="10.0.0.2", versions=OURS, storage="", data="")


def answer(**values: Any) -> Answer:
    return Answer(**{"node": "10.0.0.3", "versions": OURS, "storage": "", "data": ""} | values)


def test_nodes_that_have_all_are_not_refused() -> None:
    # torch for another kind of processor is the same torch.
    judge([FINE, answer(versions=OURS | {"torch": "2.14.1+cu130"})], OURS, "/runs/a", None)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            answer(versions=OURS | {"torch": "2.13.0"}),
            "torch must be of one version on all nodes, 2.14.1+cpu as here, got 2.13.0 on the node 10.0.0.3; install "
            "the same there.",
        ),
        (
            answer(versions=OURS | {"torch": None}),
            "torch must be of one version on all nodes, 2.14.1+cpu as here, got none on the node 10.0.0.3; install the "
            "same there.",
        ),
        (
            answer(storage="does not share: what is written here is not there"),
            "output must be a folder that all nodes share or a URI that all can reach, got '/runs/a', which the node "
            "10.0.0.3 does not share: what is written here is not there; name an NFS folder or a URI such as "
            "s3://BUCKET/runs with --output.",
        ),
        (
            answer(data="does not have"),
            "The data must be on every node or at a URI, got '/data', which the node 10.0.0.3 does not have; copy them "
            "there or name a shared folder or a URI with --data.",
        ),
    ],
)
def test_a_node_that_lacks_something_is_refused_in_words(wrong: Answer, text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        judge([FINE, wrong], OURS, "/runs/a", "/data")
    assert str(caught.value) == text

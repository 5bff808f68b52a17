"""What becomes of trials that fail: one tries again, one does not, and none disturbs another."""

import re
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.e2e.conftest import TINY, Sweep

PLUGIN = '''
import os, signal, sys
from pathlib import Path

import torch
from torch import nn

from trainables.architectures import register_variant

HERE = Path("{here}")
# The plan looks at each variant, too.
IS_TRIAL = "default_worker" in sys.argv[0]


def small(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


class Kills(nn.Module):
    """Ends its process at the first epoch that it trains, as the kernel does for want of memory: once."""

    def __init__(self, num_classes):
        super().__init__()
        self.inner = small(num_classes)

    def forward(self, images):
        mark = HERE / "killed"
        if IS_TRIAL and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(images)


class Hungry(Kills):
    def forward(self, images):
        if IS_TRIAL:
            torch.empty(2**46)
        return self.inner(images)


class Broken(Kills):
    def forward(self, images):
        if IS_TRIAL and not (HERE / "mended").exists():
            raise AttributeError("there is no such layer")
        return self.inner(images)


class Undefined(Kills):
    def forward(self, images):
        return self.inner(images) * float("nan")


register_variant("undefined")(lambda options, num_classes: Undefined(num_classes))
register_variant("kills")(lambda options, num_classes: Kills(num_classes))
register_variant("hungry")(lambda options, num_classes: Hungry(num_classes))
register_variant("broken")(lambda options, num_classes: Broken(num_classes))
register_variant("good")(lambda options, num_classes: small(num_classes))
'''

VARIANTS = ("kills", "hungry", "broken", "undefined", "good")


def test_each_kind_of_failure_is_tried_again_or_not_and_disturbs_nobody(sweep: Sweep, tmp_path: Path) -> None:
    plugin = tmp_path / "my_variants.py"
    plugin.write_text(PLUGIN.format(here=tmp_path))
    own = ("quickstart", *TINY, "--plugins", str(plugin), "--learning-rates", "0.01", "0.02", "0.03", "0.04", "0.05")
    done = sweep(*own, "--variants", *VARIANTS, "--name", "own")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "retried  kills" in done.stdout
    store = Store(str(tmp_path / "own"))
    rows = store.read_trials().to_pylist()
    of = {name: [row for row in rows if row["variant"] == name] for name in VARIANTS}

    assert [row["state"] for row in of["good"] + of["kills"]] == ["completed"] * 10
    assert [row["retries"] for row in of["good"]] == [0] * 5
    assert sum(row["retries"] for row in of["kills"]) >= 1
    (reason,) = {row["retry_reasons"] for row in of["kills"]} - {""}
    assert reason.startswith("its process ended without a word while it ran beside others")

    assert {row["state"] for row in of["undefined"]} == {"diverged"}
    assert all(row["reason"].startswith("training loss nan") for row in of["undefined"])

    # Failed trials of three rates, each tried twice for want of memory, once for an error of the code; then none.
    for name, retries, said in (
        ("hungry", 1, r"out of memory: .* the process held at most [\d.]+ GiB"),
        ("broken", 0, r"AttributeError: there is no such layer \(my_variants.py:\d+\)"),
    ):
        assert {row["state"] for row in of[name]} == {"failed"}
        run = [row for row in of[name] if not row["reason"].startswith("not run: ")]
        assert 3 <= len(run) < 5
        for row in run:
            assert re.search(said, row["reason"]), row["reason"]
            assert row["retries"] == retries
            assert "in forward" in Path(store.folder(f"failures/{row['trial_id']}.txt")).read_text()

    (tmp_path / "mended").touch()
    again = sweep("--resume", "--name", "own", "--retry-failed")
    assert again.returncode == 1, again.stdout + again.stderr
    after = Store(str(tmp_path / "own")).read_trials().to_pylist()
    assert {row["state"] for row in after if row["variant"] == "hungry"} == {"failed"}
    mended = [row for row in after if row["variant"] == "broken"]
    assert {row["state"] for row in mended} == {"completed"}
    assert all(row["retries"] == 1 and row["retry_reasons"] for row in mended)
    assert [row for row in after if row["variant"] == "good"] == of["good"]


@pytest.mark.chaos
def test_a_worker_of_a_group_that_is_killed_costs_one_try(sweep: Sweep, tmp_path: Path) -> None:
    plugin = tmp_path / "my_variants.py"
    plugin.write_text(PLUGIN.format(here=tmp_path))
    own = ("quickstart", *TINY, "--plugins", str(plugin), "--learning-rates", "0.01", "--workers-per-trial", "1")
    done = sweep(*own, "--variants", "kills", "--name", "own")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = Store(str(tmp_path / "own")).read_trials().to_pylist()
    assert (row["state"], row["retries"]) == ("completed", 1)

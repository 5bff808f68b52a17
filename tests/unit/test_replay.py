"""The replay of recorded curves by benchmarks/early_stopping.py, on curves made up so that it can be done by hand."""

from itertools import permutations
from pathlib import Path

import pytest

from benchmarks.curves import Curve, grid, read_curves
from benchmarks.early_stopping import (
    EPOCHS,
    FILE,
    Nobody,
    OnePool,
    PerCell,
    Policy,
    choose,
    name,
    outcomes,
    policies,
    replay,
    simulate,
    summarise,
    wait,
    whole_cells,
)

NONE = Policy(name="none", judge=Nobody, ends_dead_starts=False)
DEAD = Policy(name="dead", judge=Nobody)


def curve(
    lr: float, early: float, final: float, *, variant: str = "net", seed: int = 0, dead_after: int | None = None
) -> Curve:
    """Return a curve that stands at `early` up to the last epoch but one, or dies."""
    epochs = dead_after or EPOCHS
    last: list[float | None] = [early] * (epochs - 1) + [1.0 if dead_after else final]
    return Curve(
        variant=variant,
        lr=lr,
        seed=seed,
        errors={"last": last, "branch": [final if epoch in (3, 5) else None for epoch in range(epochs)]},
        train_losses=[1.0] * epochs,
        seconds=[2.0] * epochs,
        reason="dead start" if dead_after else "",
    )


# The larger rate looks worse until the end.
SLOW, FAST = curve(0.1, 0.6, 0.2), curve(0.01, 0.5, 0.4)


def per_cell(rung: int, judged_by: str = "last", share: float = 0.0) -> Policy:
    return Policy(
        name="asha",
        judge=lambda: PerCell((rung,), 4),
        judged_by=judged_by,
        rungs=(rung,) if share else (),
        share=share,
    )


def test_without_early_stopping_every_trial_runs_to_its_end_and_a_dead_one_only_where_it_is_ended() -> None:
    dead = curve(0.2, 0.9, 1.0, dead_after=2)
    curves = [SLOW, FAST, dead]
    assert simulate(curves, NONE, 1) == {name(c): (EPOCHS, 0.0) for c in curves}
    assert simulate(curves, DEAD, 3) == {name(SLOW): (EPOCHS, 0.0), name(FAST): (EPOCHS, 0.0), name(dead): (2, 0.0)}
    assert choose(curves) == SLOW
    assert choose([dead]) is None


def test_a_rung_stops_what_looks_worse_and_the_choice_is_among_what_completed() -> None:
    (outcome,) = outcomes([[FAST, SLOW]], per_cell(4), 2, order=3)
    assert (outcome.cost, outcome.budget) in {(EPOCHS + 4, 2 * EPOCHS), (2 * EPOCHS, 2 * EPOCHS)}
    ran = simulate([FAST, SLOW], per_cell(4), 2)
    assert ran == {name(FAST): (EPOCHS, 0.0), name(SLOW): (4, 0.0)}


def test_arrivals_are_in_the_order_of_the_clock() -> None:
    # One at a time, the slow one is alone on the rung when it comes; the other has to be as good.
    assert simulate([SLOW, FAST], per_cell(4), 1)[name(SLOW)] == (EPOCHS, 0.0)
    quick = curve(0.01, 0.5, 0.4)
    quick.seconds[:] = [1.0] * EPOCHS
    assert simulate([SLOW, quick], per_cell(4), 2)[name(SLOW)] == (4, 0.0)


def test_a_branch_shows_what_comes_and_costs_its_share_of_an_epoch() -> None:
    ran = simulate([SLOW, FAST], per_cell(4, "branch", 0.25), 2)
    assert ran == {name(SLOW): (EPOCHS, 0.25), name(FAST): (4, 0.25)}
    # Where it was not measured, nothing is decided.
    assert simulate([SLOW, FAST], per_cell(5, "branch", 0.25), 2)[name(FAST)] == (EPOCHS, 0.25)


def test_where_all_wait_the_best_goes_on_whatever_the_order() -> None:
    policy = Policy(name="wait", judge=Nobody, judged_by="branch", rungs=(4,), share=0.25, keep_one_in=4)
    assert wait([SLOW, FAST], policy) == {name(SLOW): (EPOCHS, 0.25), name(FAST): (4, 0.25)}
    early, late = curve(0.3, 0.1, 0.1, dead_after=2), curve(0.2, 0.9, 0.9, dead_after=6)
    for order in permutations([early, late, SLOW, FAST]):
        assert wait(order, policy) == {
            name(early): (2, 0.0),
            name(late): (4, 0.25),
            name(SLOW): (EPOCHS, 0.25),
            name(FAST): (4, 0.25),
        }
    found = [outcomes([[SLOW, FAST]], policy, 1, order) for order in range(5)]
    assert all(run == found[0] for run in found)
    assert found[0][0].chosen == 0.1


def test_the_committed_curves_are_of_the_grid_and_each_is_there_once() -> None:
    trials = [(config.variant, config.lr, config.seed) for config in grid()]
    recorded = [(c.variant, c.lr, c.seed) for c in read_curves(FILE)]
    assert recorded
    assert len(set(recorded)) == len(recorded)
    assert set(recorded) <= set(trials)


def test_one_pool_over_all_cells_loses_the_weaker_one() -> None:
    strong = [curve(lr, 0.2, 0.1, variant="strong") for lr in (0.1, 0.01)]
    weak = [curve(lr, 0.8, 0.7, variant="weak") for lr in (0.1, 0.01)]
    policy = Policy(name="ray", judge=lambda: OnePool(1, 4))
    found = outcomes([strong, weak], policy, 4, order=0)
    assert [outcome.chosen is None for outcome in found] == [False, True]


def test_the_summary_counts_by_hand() -> None:
    run = outcomes([[FAST, SLOW]], DEAD, 2, order=0)
    assert summarise([run])["saved %"] == "0.0"
    stopped = [simulate([FAST, SLOW], per_cell(4), 2)]
    assert sum(epochs for epochs, _ in stopped[0].values()) == EPOCHS + 4
    # One order in which the wrong rate was chosen: 0.4 instead of 0.2.
    wrong = [o for order in range(20) for o in outcomes([[FAST, SLOW]], per_cell(4), 2, order) if o.chosen == 0.01]
    assert wrong
    line = summarise([wrong[:1]])
    assert (line["changed"], line["regret"], line["lost"]) == ("1.0 (1)", "20.00 (20.00)", "0.0")
    assert line["saved %"] == f"{100 * (1 - (EPOCHS + 4) / (2 * EPOCHS)):.1f}"


def test_cells_that_lack_a_trial_or_were_all_dead_are_left_out() -> None:
    rates = (0.01, 0.025, 0.05, 0.1)
    whole = [curve(lr, 0.5, 0.4, variant="whole") for lr in rates]
    short = [curve(lr, 0.5, 0.4, variant="short") for lr in rates[:3]]
    dead = [curve(lr, 0.5, 0.4, variant="dead", dead_after=3) for lr in rates]
    assert whole_cells([*dead, *short, *whole]) == {0: [whole]}


def test_a_replay_prints_a_line_for_each_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "curves.jsonl"
    names = {policy.judged_by for policy in policies()}
    lines = []
    for number, config in enumerate(grid()):
        errors: dict[str, list[float | None]] = {key: [0.5 - number % 7 / 100] * EPOCHS for key in names}
        made = curve(config.lr, 0.5, 0.4, variant=config.variant, seed=config.seed)
        lines.append(
            Curve(**{**vars(made), "errors": errors}).to_json()  # the same names as a recorded curve has
        )
    file.write_text("\n".join(lines) + "\n")
    replay(file, [2])
    text = capsys.readouterr().out
    for policy in policies():
        assert policy.name in text
    assert len({policy.name for policy in policies()}) == len(policies())

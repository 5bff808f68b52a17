import io
import random
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from search_spaces import Choice, Space, Uniform
from sweep.monitor.grid import draw, printable, shorten
from sweep.record.params import write_params
from sweep.record.progress import WORDS, Scope
from sweep.study.catalog import cifar10
from tests.standings import RATES, TWELVE, row, scope


def lines_of(found: Scope, rows: list[dict[str, Any]], **options: Any) -> list[str]:
    """Draw and return the lines as text, as a terminal of that width would show them."""
    width = options["width"]
    console = Console(file=io.StringIO(), record=True, width=width, height=options.get("height") or 100)
    console.print(draw(found, rows, **options))
    lines = console.export_text().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert options.get("height") is None or len(lines) <= options["height"]
    return lines


def many(found: Scope, share: float = 0.8, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of all states for a share of the search's trials."""
    chance = random.Random(seed)
    rows = []
    for name in found.cells:
        for number in range(found.points[0]):
            state = chance.choice(["pending", "running", "completed", "stopped", "diverged", "failed"])
            lr = RATES[number % len(RATES)] if found.dimension else chance.uniform(0.001, 0.1)
            rows.append(row(name.split("/")[2], lr, state, number=number, val_error=chance.random()))
    return rows[: int(share * len(rows))]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_forty_eight_cells_fit(width: int, height: int) -> None:
    found = scope(variants=TWELVE, base=replace(cifar10().base, epochs=350))
    lines = lines_of(found, many(found), dashboard="http://127.0.0.1:8265", width=width, height=height)
    shown = [line.split()[0] for line in lines if line.split() and line.split()[0] in TWELVE]
    assert tuple(shown) == TWELVE
    heading = next(line for line in lines if "confirm" in line)
    assert heading.split() == ["learning", "rate", "0.25", "0.1", "0.05", "0.01", "confirm"]
    assert "dashboard http://127.0.0.1:8265" in "\n".join(lines)
    assert f"of {12 * 7} trials ended" in lines[1]


def test_states_are_told_apart_without_colour() -> None:
    rows = [
        row("model-a", 0.25, "running", val_error=0.612),
        row("model-a", 0.1, "stopped", val_error=0.7),
        row("model-a", 0.05, "diverged", val_error=1.0),
        row("model-a", 0.01, "completed", val_error=0.3),
        row("all-cnn-a", 0.25, "failed"),
    ]
    lines = lines_of(scope(), rows, width=80)
    model = next(line for line in lines if line.startswith("model-a"))
    assert [word for word in model.split() if word.isalpha()] == ["r", "s", "d", "c", "w"]
    assert "r 61.2 ▃  4" in model
    assert "c 30.0*█ 10" in model
    assert model.count("*") == 1
    other = next(line for line in lines if line.startswith("all-cnn-a"))
    assert [word for word in other.split() if word.isalpha()] == ["f", "w", "w", "w", "w"]
    legend = next(line for line in lines if line.startswith("waiting"))
    assert " ".join(legend.split()) == "waiting 9 running 1 stopped 1 diverged 1 completed 1 failed 1"
    assert len({word[0] for word in WORDS}) == len(WORDS)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_trial_cut_off_after_an_epoch_without_a_measurement_shows_its_epoch_and_no_error(width: int) -> None:
    rows = [row("model-a", 0.25, "running", val_error=None), row("model-a", 0.1, "pending", epochs_run=3)]
    model = next(line for line in lines_of(scope(), rows, width=width) if line.startswith("model-a"))
    assert "." not in model
    assert "*" not in model
    if width >= 80:
        assert [word for word in model.split() if word.isalpha()] == ["r", "w", "w", "w", "w"]
        assert [word for word in model.split() if word.isdigit()] == ["4", "3"]
    else:
        assert " - " in model


def test_bars_grow_with_the_epochs() -> None:
    rows = [row("model-a", rate, "running", epochs_run=run) for rate, run in zip(RATES, (0, 2, 5, 10), strict=True)]
    wide = next(line for line in lines_of(scope(), rows, width=160) if line.startswith("model-a"))
    assert [part.count("█") for part in wide.split("r ")[1:]] == [0, 2, 6, 12]
    plain = next(line for line in lines_of(scope(), rows, width=160, unicode=False) if line.startswith("model-a"))
    assert plain.isascii()
    assert [part.count("#") for part in plain.split("r ")[1:]] == [0, 2, 6, 12]


def test_seeds_show_their_mean_and_a_count() -> None:
    two = scope(protocol="paper", seeds=2)
    rows = [row("model-a", 0.1, "completed", number=n, seed=n, test_error=e) for n, e in enumerate((0.2, 0.4))]
    lines = lines_of(two, [*rows, row("model-a", 0.05, "completed", test_error=0.5)], width=80)
    model = next(line for line in lines if line.startswith("model-a"))
    assert "c 30.0*2/2" in model
    assert "w 50.0 1/2" in model
    assert "test error in %" in "\n".join(lines)
    assert "confirm" not in "\n".join(lines)


def test_the_second_phase_is_a_column_of_its_own() -> None:
    rows = [
        row("model-a", 0.1, "completed", val_error=0.4),
        row("model-a", 0.1, "completed", phase="confirm", test_error=0.35),
        row("model-a", 0.1, "running", number=1, phase="confirm"),
    ]
    model = next(line for line in lines_of(scope(), rows, width=80) if line.startswith("model-a"))
    assert "r 35.0 ▄1/3" in model


def test_points_of_a_sampler_are_numbered() -> None:
    drawn = scope(search="tpe", trials_per_cell=5)
    lines = lines_of(drawn, many(drawn), width=100)
    assert next(line for line in lines if "confirm" in line).split() == ["point", "1", "2", "3", "4", "5", "confirm"]


def test_values_of_any_hyperparameter_are_columns() -> None:
    found = scope(space=Space(max_grad_norm=Choice((None, 1.0, 2.5)), dropout=Choice((0.0, 0.5))))
    rows = [
        row("model-a", 0.1, "completed", number=number, val_error=error, params=write_params(params))
        for number, (error, params) in enumerate(
            [
                (0.4, {"max_grad_norm": None, "dropout": 0.5}),
                (0.3, {"max_grad_norm": None, "dropout": 0.0}),
                (0.2, {"max_grad_norm": 2.5, "dropout": 0.0}),
            ]
        )
    ]
    lines = lines_of(found, rows, width=80)
    assert next(line for line in lines if "confirm" in line).split() == ["max", "…norm", "none", "1", "2.5", "confirm"]
    model = next(line for line in lines if line.startswith("model-a"))
    assert [part for part in ("c 30.0 2/2", "w      0/2", "w 20.0*1/2") if part not in model] == []


@pytest.mark.parametrize("width", [80, 160])
def test_a_cell_with_fewer_points_than_others_has_nothing_in_their_places(width: int) -> None:
    found = scope(space=Space(), spaces={"model-a": Space(momentum=Choice((0.8, 0.9, 0.95)))})
    rows = [row("all-cnn-a", 0.1, "completed", val_error=0.4, params="{}")]
    lines = lines_of(found, rows, width=width)
    assert next(line for line in lines if "confirm" in line).split() == ["point", "1", "2", "3", "confirm"]
    letters = {
        line.split()[0]: [word for word in line.split()[1:] if word.isalpha()]
        for line in lines
        if line.startswith(("model-a", "all-cnn-a"))
    }
    assert letters == {"model-a": ["w"] * 4, "all-cnn-a": ["c", "w"]}


def test_a_search_without_a_learning_rate_names_what_it_searches() -> None:
    found = scope(search="tpe", trials_per_cell=40, space=Space(bias_lr_factor=Uniform(0.5, 2.0)))
    rows = [row("model-a", 0.1, "completed", val_error=0.4, params=write_params({"bias_lr_factor": 1.2345}))]
    lines = lines_of(found, rows, width=80)
    assert next(line for line in lines if "best" in line).split()[:5] == ["best", "at", "bias", "lr", "factor"]
    assert next(line for line in lines if line.startswith("model-a")).split()[1:3] == ["40.0", "1.23"]
    found = scope(search="random", trials_per_cell=40, space=Space())
    nothing = lines_of(found, [row("model-a", 0.1, "completed", val_error=0.4, params="{}")], width=80)
    assert next(line for line in nothing if "best" in line).split()[:2] == ["best", "ended"]
    assert next(line for line in nothing if line.startswith("model-a")).split()[1:3] == ["40.0", "1/40"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_a_thousand_trials_are_a_row_per_variant(width: int, height: int) -> None:
    found = scope(variants=TWELVE[:10], search="tpe", trials_per_cell=100)
    rows = many(found, share=1.0)
    assert len(rows) == 1000
    lines = lines_of(found, rows, width=width, height=height)
    shown = [line for line in lines if line.split() and line.split()[0] in TWELVE]
    assert len(shown) == 10
    mine = [one for one in rows if one["variant"] == "model-a"]
    assert f"r{sum(one['state'] == 'running' for one in mine)}" in shown[0].split()
    alive = [one["val_error"] for one in mine if one["state"] not in ("diverged", "failed")]
    assert f"{100 * min(alive):.1f}" in shown[0].split()


def test_more_cells_than_lines_show_those_that_run_and_count_the_rest() -> None:
    found = scope(variants=tuple(f"net-{number}" for number in range(60)), protocol="paper")
    rows = [row("net-50", 0.1, "running"), *(row("net-3", rate, "completed", test_error=0.5) for rate in RATES)]
    lines = lines_of(found, rows, width=80, height=24)
    assert any(line.startswith("net-50") for line in lines)
    assert not any(line.startswith("net-3 ") for line in lines)
    assert len(lines) <= 24
    assert any(line.startswith("and ") and "more" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (20, 6), (10, 3), (1, 1)])
def test_the_smallest_terminals_are_not_left(width: int, height: int) -> None:
    found = scope(variants=TWELVE)
    lines = lines_of(found, many(found), events=("trial ended",) * 9, width=width, height=height)
    assert 1 <= len(lines) <= height


def test_the_smallest_sensible_terminal_says_the_essentials() -> None:
    found = scope(variants=TWELVE)
    lines = lines_of(found, many(found), events=("09:00:00 the last one",), width=40, height=10)
    assert lines[0].startswith("table3")
    assert "trials ended" in lines[1]
    assert lines[-1] == "09:00:00 the last one"
    assert any(line.startswith("and ") for line in lines)


def test_the_last_events_stand_below_and_older_ones_go() -> None:
    events = [f"event {number}" for number in range(9)]
    lines = lines_of(scope(), [], events=events, width=80, height=24)
    assert [line for line in lines if line.startswith("event")] == events[-5:]
    nothing = lines_of(scope(), [], events=(), width=80, height=24)
    assert nothing[-1].startswith("waiting")


def test_markup_and_escapes_in_names_are_shown_as_text() -> None:
    names = ("[red]net[/red]", "\x1b[31mnet\x1b[0m\n")
    found = scope(variants=names)
    text = "\n".join(lines_of(found, [], events=("[bold]a\x1b[2J",), title="[i]", dashboard="[b]", width=160))
    assert "[red]net[/red]" in text
    assert "?[31mnet?[0m?" in text
    assert "[bold]a?[2J" in text
    assert "[i]" in text
    assert "\x1b" not in text


def test_long_names_lose_their_middle() -> None:
    assert shorten("convpool-cnn-c", 14) == "convpool-cnn-c"
    assert shorten("convpool-cnn-c", 9) == "conv…nn-c"
    assert shorten("a", 3) == "a  "
    assert [cell_len(shorten("网络网络网络", width)) for width in range(1, 12)] == list(range(1, 12))
    assert printable("a\tb") == "a?b"
    names = tuple(f"{'very-long-name-' * 8}{end}" for end in "ab")
    lines = lines_of(scope(variants=names), [row(names[1], 0.1, "running", val_error=0.5)], width=80)
    assert sum("…" in line for line in lines) == 2
    assert any("r 50.0*" in line for line in lines)


def test_colours_follow_the_state_and_no_color_has_none() -> None:
    rows = [row("model-a", 0.1, "completed", val_error=0.3), row("model-a", 0.05, "failed")]
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard", width=80).print(draw(scope(), rows, width=80))
    assert "\x1b[1;32mc 30.0*" in out.getvalue()
    assert "\x1b[1;31mf" in out.getvalue()
    plain = io.StringIO()
    Console(file=plain, force_terminal=True, color_system="standard", width=80, no_color=True).print(
        draw(scope(), rows, width=80)
    )
    assert "\x1b[1;32m" not in plain.getvalue()
    assert "c 30.0*" in plain.getvalue()


def test_where_trials_run_is_said() -> None:
    rows = [
        row("model-a", 0.25, "running", device="cpu", node="a"),
        row("model-a", 0.1, "running", device="cpu", node="b"),
        row("model-a", 0.05, "running"),
        row("model-a", 0.01, "completed", device="cuda", node="c"),
    ]
    text = lines_of(scope(), rows, width=80)
    assert "running: 2 on cpu, 1 starting, 2 nodes" in text

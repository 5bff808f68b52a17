"""A benchmark's claims are kept, set against their targets, and guarded."""

from pathlib import Path

import pytest

from benchmarks import claims, run
from benchmarks.claims import Claim


@pytest.mark.parametrize(
    ("target", "at_least", "met", "verdict"),
    [
        (None, True, None, "|  |  |"),
        (2.0, True, True, "| at least 2 | met |"),
        (2.1, True, False, "| at least 2.1 | **missed** |"),
        (2.0, False, True, "| at most 2 | met |"),
        (1.9, False, False, "| at most 1.9 | **missed** |"),
    ],
)
def test_the_median_is_set_against_the_target(
    target: float | None, at_least: bool, met: bool | None, verdict: str
) -> None:
    claim = Claim(name="a", values=(1.0, 2.0, 9.0), unit="x", target=target, at_least=at_least)
    assert claim.met is met
    assert claim.line() == f"| a | 2 x | 1 to 9 {verdict}"


def test_claims_are_read_as_they_were_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        Claim(name="a", values=[1.0], unit="s", target=2.0, at_least=False),
        Claim(name="b", values=[3.0], unit="x"),
    ]
    claims.keep(tmp_path / "claims", made[:1])
    claims.keep(tmp_path / "claims", made[1:])
    assert claims.read(tmp_path / "claims") == made
    assert "| a | 1 s | one run | at most 2 | met |" in capsys.readouterr().out
    assert claims.read(tmp_path / "none") == []


def test_the_guard_names_each_ratio_that_fell() -> None:
    found = [
        Claim(name=name, values=[value], unit="x") for name, value in (("a", 2.0), ("b", 1.5), ("c", float("nan")))
    ]
    assert run.guard(found, {"a": 2.0, "b": 2.0, "c": 1.0, "d": 1.0}) == [
        "'d' must be claimed, and is not: see GUARD.",
        "b must be at least 2 x, got 1.50.",
        "c must be at least 1 x, got nan.",
    ]


def test_the_section_holds_claims_and_tables_between_its_marks() -> None:
    claim = Claim(name="a", values=[1.0], unit="x")
    said = f"| what | s |\n|---|---|\n| a | 1 |\n\n{claims.HEAD}\n{claim.line()}\n"
    text = run.section([(run.Benchmark("start", "--repeats 3"), said, [claim], 12.3)], "2026-01-02, a machine.")
    assert text == "\n".join(
        [
            *(run.BEGIN, "", "2026-01-02, a machine.", "", claims.HEAD, claim.line(), ""),
            *("`python -m benchmarks.start --repeats 3`, 12 s:", "", "| what | s |\n|---|---|\n| a | 1 |", "", run.END),
        ]
    )


def test_results_have_the_place_that_is_written() -> None:
    text = run.RESULTS.read_text(encoding="utf-8")
    assert text.count(run.BEGIN) == text.count(run.END) == 1
    assert text.index(run.BEGIN) < text.index(run.END)


@pytest.mark.parametrize(("seen", "wrong"), [([1.0, 2.0], 0), ([1.0, 1.9], 1), ([2.0], 0)])
def test_a_ratio_that_falls_once_is_measured_again(
    seen: list[float], wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(seen)
    monkeypatch.setattr(run, "GUARD", {run.Benchmark("start"): {"a": 2.0}})
    monkeypatch.setattr(run, "run", lambda _: ("", [Claim(name="a", values=[left.pop(0)], unit="x")], 0.0))
    assert len(run.guarded()) == wrong
    assert not left


def test_the_guard_has_a_floor_in_each_benchmark() -> None:
    assert all(run.GUARD.values())

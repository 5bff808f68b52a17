import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from analysis import Evidence, findings
from analysis.checks import CHECKS
from search_spaces import Choice, Dimension, IntUniform, LogUniform, Space, Uniform
from sweep.record.document import Change, Code, Data, Extension, Hardware
from sweep.study.catalog import cifar10
from sweep.study.options import RunOptions
from tests import reported
from tests.standings import data, execution, run_document

NUMBERS = count()


def trial(variant: str = "all-cnn-c", lr: float = 0.05, **values: Any) -> Any:
    usual = {"epochs_run": 350, "epochs_budget": 350, "val_error": 0.1, "variant": variant, "lr": lr, "device": None}
    return reported.trial(next(NUMBERS), **usual | values)


def epoch(trial_id: str, number: int, error: float) -> dict[str, Any]:
    return {"trial_id": trial_id, "epoch": number, "test_error": error, "val_error": error}


def evidence(
    trials: list[Any],
    epochs: list[Any] | None = None,
    *,
    generated: bool = False,
    images: Mapping[str, Data] | None = None,
    document: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    **options: Any,
) -> Evidence:
    """Return the evidence of a run of the paper's study, but for options, and for fields that no option has."""
    variants = tuple(dict.fromkeys(row["variant"] for row in trials)) or ("all-cnn-c",)
    study = RunOptions(**{"variants": variants, "protocol": "paper"} | options).apply(cifar10())
    study = replace(study, **(fields or {}))
    written = run_document(study, images or {"cifar10": data(generated=generated)}, **(document or {}))
    return Evidence(document=written, trials=trials, epochs=epochs or [])


HOLDOUT = {"protocol": "holdout"}


def found(number: str, *args: Any, **options: Any) -> list[str]:
    """Return what one check finds, without its number."""
    everything = findings(evidence(*args, **options))
    return [text.removeprefix(f"{number} ") for text in everything if text.startswith(f"{number} ")]


def seeds(variant: str, *errors: float, **values: Any) -> list[dict[str, Any]]:
    return [trial(variant, seed=seed, test_error=error, **values) for seed, error in enumerate(errors)]


def test_a_faultless_run_has_no_finding() -> None:
    searched = [trial(lr=lr, val_error=error, test_error=None) for lr, error in ((0.25, 0.3), (0.05, 0.1), (0.01, 0.2))]
    confirmed = [trial(phase="confirm", seed=100 + seed, val_error=None) for seed in range(3)]
    assert findings(evidence([*searched, *confirmed], fields=HOLDOUT)) == []


def test_every_finding_has_its_number_what_it_is_about_and_an_advice() -> None:
    texts = findings(evidence([*seeds("a", 0.9, lr=0.25), *seeds("b", 0.9, state="diverged")], variants=("model-a",)))
    assert texts
    for text in texts:
        assert re.fullmatch(r"F\d+ [^:]+: [^\n]+\. Advice: [^\n]+\.", text)


def test_numbers_stay() -> None:
    assert list(CHECKS) == [f"F{number}" for number in range(1, 14) if number != 9]
    for number, check in CHECKS.items():
        assert (check.__doc__ or "").startswith(f"{number}: ")


def test_the_document_of_the_findings_lists_every_number() -> None:
    text = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()
    assert re.findall(r"^\| (F\d+) \|", text, re.MULTILINE) == list(CHECKS)


# F1


@pytest.mark.parametrize(("best", "end"), [(0.25, "upper"), (0.01, "lower"), (0.1, None), (0.05, None)])
def test_f1_the_best_listed_rate_is_an_outermost_one(best: float, end: str | None) -> None:
    trials = [trial(lr=lr, test_error=0.1 if lr == best else 0.2) for lr in (0.25, 0.1, 0.05, 0.01)]
    texts = found("F1", trials)
    if end is None:
        assert texts == []
    else:
        advice = "higher" if end == "upper" else "lower"
        assert texts == [
            f"all-cnn-c: the best learning rate lies at the {end} end of those searched; one beyond may be better. "
            f"Advice: search {advice} values too."
        ]


def test_f1_a_single_rate_has_no_ends() -> None:
    assert found("F1", [trial()], learning_rates=(0.05,)) == []


@pytest.mark.parametrize(
    ("lr", "end"), [(0.001, "lower"), (0.0017, "lower"), (0.0018, None), (0.14, None), (0.15, "upper")]
)
def test_f1_the_end_of_a_range_is_the_outer_tenth_of_its_logarithm(lr: float, end: str | None) -> None:
    # From 0.001 to 0.25 a tenth is a factor of 1.737.
    texts = found("F1", [trial(lr=lr)], search="random", trials_per_cell=1)
    assert [re.findall("upper|lower", text)[0] for text in texts] == ([end] if end else [])


LISTED, FEW = Choice((0.001, 0.003, 0.01)), Choice((0.0, 0.5))


@pytest.mark.parametrize(
    ("dimension", "best", "end"),
    [
        (LISTED, 0.01, "upper"),
        (LISTED, 0.001, "lower"),
        (LISTED, 0.003, None),
        (Choice((0.001,)), 0.001, None),
        # Nothing lies below 0.
        (FEW, 0.0, None),
        (FEW, 0.5, "upper"),
        (Uniform(0, 0.5), 0.0, None),
        (Uniform(0, 0.5), 0.02, None),
        (Uniform(0, 0.5), 0.45, "upper"),
        (Uniform(0, 0.5), 0.44, None),
        (Uniform(0.1, 0.5), 0.14, "lower"),
        (Uniform(0.1, 0.5), 0.15, None),
        (Uniform(0.0, 0.5, step=0.1), 0.5, "upper"),
        # A tenth of its logarithm is a factor of 1.2589.
        (LogUniform(0.001, 0.01), 0.00125, "lower"),
        (LogUniform(0.001, 0.01), 0.00127, None),
        (LogUniform(0.001, 0.01), 0.0081, "upper"),
    ],
)
def test_f1_any_number_that_was_searched(dimension: Dimension, best: float, end: str | None) -> None:
    random = {} if dimension.listed() else {"search": "random", "trials_per_cell": 1}
    texts = found("F1", [trial(dropout=best)], fields={"space": Space(dropout=dimension), **random})
    said = [re.findall("the best dropout lies at the (upper|lower) end", text) for text in texts]
    assert said == ([[end]] if end else [])


def test_f1_whole_numbers_and_each_hyperparameter_by_itself() -> None:
    space = Space(lr=Choice((0.01, 0.1)), batch_size=IntUniform(32, 256))
    trials = [trial(lr=0.1, batch_size=250), trial(lr=0.01, batch_size=40, test_error=0.2)]
    texts = found("F1", trials, fields={"space": space, "search": "tpe", "trials_per_cell": 2})
    assert [text.split(" lies")[0] for text in texts] == [
        "all-cnn-c: the best learning rate",
        "all-cnn-c: the best batch size",
    ]


def test_f1_texts_and_truths_have_no_ends_nor_has_a_number_beside_none() -> None:
    space = Space(
        initialisation=Choice(("he", "glorot")),
        class_relu=Choice((False, True)),
        max_grad_norm=Choice((None, 5.0)),
        canvas=Choice((None,)),
    )
    chosen = {"initialisation": "glorot", "class_relu": True, "max_grad_norm": 5.0, "canvas": None}
    other = {"initialisation": "he", "class_relu": False, "max_grad_norm": None, "canvas": None}
    trials = [trial(**chosen), trial(**other, test_error=0.2)]
    assert found("F1", trials, fields={"space": space}) == []


def test_f1_a_dimension_counts_only_where_the_selected_configuration_has_it() -> None:
    space = Space(
        initialisation=Choice(("he", "normal")),
        initialisation_std=Choice((0.01, 0.05)).when("initialisation", "normal"),
    )
    has = trial(initialisation="normal", initialisation_std=0.05)
    lacks = trial(initialisation="he", test_error=0.2)
    (text,) = found("F1", [has, lacks], fields={"space": space})
    assert "the best initialisation std lies at the upper end" in text
    assert found("F1", [has | {"test_error": 0.3}, lacks], fields={"space": space}) == []


def test_f1_a_variants_ends_are_those_of_its_own_space() -> None:
    fields = {"space": Space(dropout=Choice((0.1, 0.5))), "spaces": {"model-c": Space(dropout=Choice((0.1, 0.5, 0.7)))}}
    (text,) = found("F1", [trial("model-c", dropout=0.5), trial("all-cnn-c", dropout=0.5)], fields=fields)
    assert text.startswith("all-cnn-c: the best dropout lies at the upper end")


# F2


def test_f2_fewer_than_three_seeds() -> None:
    trials = [*seeds("a", 0.1), *seeds("b", 0.1, 0.2), *seeds("c", 0.1, 0.2, 0.3), *seeds("d", 0.1, state="failed")]
    assert found("F2", trials) == [
        "a, b: fewer than 3 seeds, which cannot tell a variant's error from its luck. "
        "Advice: run with --seeds 3 or more."
    ]
    assert found("F2", seeds("c", 0.1, 0.2, 0.3)) == []


def test_f2_a_finding_of_every_row_does_not_list_them() -> None:
    (text,) = found("F2", [*seeds("a", 0.1), *seeds("b", 0.1)])
    assert text.startswith("all 2 rows: ")


def test_cells_are_named_where_variants_do_not_tell_them_apart() -> None:
    trials = [*seeds("a", 0.1), *seeds("a", 0.1, 0.2, 0.3, augmentation="flip-shift")]
    (text,) = found("F2", trials, fields={"augmentations": ("none", "flip-shift")})
    assert text.startswith("cifar10/none/a: ")


# F3


def test_f3_a_cell_whose_trials_all_diverged() -> None:
    dead = [trial("a", lr, state="diverged", test_error=1.0) for lr in (0.25, 0.1)]
    (text,) = found("F3", [*dead, trial("b"), trial("b", 0.25, state="diverged")])
    assert text.startswith("a: every trial diverged")
    assert found("F3", [*dead, trial("a", 0.01, state="running")]) == []
    assert found("F3", []) == []


# F4


def early_stopped(protocol: str, at_epoch: float, at_end: float, stopped: float, **values: Any) -> list[str]:
    """Return F4 of one completed trial and one that was stopped after epoch 9, with these errors."""
    column = "test_error" if protocol == "paper" else "val_error"
    other = {"test_error": None, "val_error": None}
    winner = trial(lr=0.01, trial_id="winner", **other | {column: at_end})
    loser = trial(**{"lr": 0.1, "state": "stopped", "epochs_run": 9} | other | {column: stopped} | values)
    curve = [epoch("winner", 9, at_epoch), epoch("winner", 10, at_end)]
    return found("F4", [winner, loser], curve, fields={"protocol": protocol})


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_f4_a_stopped_trial_that_was_ahead_of_the_winner(protocol: str) -> None:
    assert early_stopped(protocol, at_epoch=0.6, at_end=0.5, stopped=0.55) == [
        "all-cnn-c: 1 trial was stopped while ahead of the chosen configuration, 0 of them below its error at the end; "
        "at learning rate 0.1, 55.00 % after epoch 9 against 60.00 %. "
        "Advice: run without early stopping, or let it begin later."
    ]
    (text,) = early_stopped(protocol, at_epoch=0.6, at_end=0.5, stopped=0.45)
    assert "1 of them below its error at the end" in text
    assert early_stopped(protocol, at_epoch=0.6, at_end=0.5, stopped=0.6) == []


def test_f4_a_stopped_trial_below_the_winners_end_counts_though_it_was_behind_then() -> None:
    assert len(early_stopped("paper", at_epoch=0.4, at_end=0.5, stopped=0.45)) == 1


def test_f4_a_seed_of_the_choice_is_no_rival_of_it() -> None:
    assert early_stopped("paper", at_epoch=0.6, at_end=0.5, stopped=0.1, lr=0.01, seed=1) == []


def test_f4_without_a_winner_or_its_curve() -> None:
    stopped = trial(lr=0.1, state="stopped", epochs_run=9, test_error=0.05)
    assert found("F4", [stopped]) == []
    assert found("F4", [stopped, trial(test_error=None, state="failed")]) == []
    assert len(found("F4", [stopped, trial()])) == 1
    assert found("F4", [trial(), trial(lr=0.1, state="stopped", epochs_run=9, test_error=None)]) == []


# F5


@pytest.mark.parametrize(("last", "is_early"), [(200, True), (201, False)])
def test_f5_stopped_before_the_first_drop(last: int, is_early: bool) -> None:
    # The rate drops after epoch 200 of 350.
    texts = found("F5", [trial(), trial("model-a", lr=0.1, state="stopped", epochs_run=last)])
    assert bool(texts) == is_early
    if texts:
        assert texts[0].startswith("model-a: 1 trial was stopped before the learning rate first dropped")


@pytest.mark.parametrize(("last", "is_early"), [(99, True), (100, False)])
def test_f5_halving_by_averaged_weights_may_stop_halfway_to_the_drop(last: int, is_early: bool) -> None:
    study = {"early_stopping": "halving"}
    texts = found("F5", [trial(), trial("model-a", lr=0.1, state="stopped", epochs_run=last)], fields=study)
    assert bool(texts) == is_early
    if texts:
        assert "stopped before halfway to where the learning rate first dropped" in texts[0]


def test_f5_a_schedule_without_drops_has_no_first_one() -> None:
    assert found("F5", [trial(state="stopped", epochs_run=1)], fields={"base": replace(cifar10().base, drops=())}) == []


# F6


def test_f6_trials_that_ran_under_other_conditions() -> None:
    same = {"device": "cpu", "node": "a", "precision": "bfloat16", "memory_format": "contiguous", "compiled": True}
    assert found("F6", [trial(**same), trial(**same), trial()]) == []
    other = {"device": "NVIDIA H100", "node": "b", "precision": "float32", "memory_format": "channels_last"}
    other["compiled"] = False
    (text,) = found("F6", [trial(**same), trial(**other), trial(**same)])
    assert text.startswith(
        "the run: trials differ in device NVIDIA H100 (1), cpu (2); node 2 names; precision bfloat16 (2), float32 (1); "
        "memory format channels_last (1), contiguous (2); compiled False (1), True (2), which"
    )


def test_f6_what_was_searched_is_no_other_condition() -> None:
    fields = {"space": Space(precision=Choice(("float32", "bfloat16")))}
    trials = [trial(precision="float32", device=name) for name in ("cpu", "cpu")]
    trials[1] |= {"precision": "bfloat16"}
    assert found("F6", trials, fields=fields) == []
    assert len(found("F6", trials)) == 1


CODE = Code(commit="0123456789abcdef", altered=False)


def test_f6_code_that_no_commit_holds() -> None:
    def found_of(code: Code) -> list[str]:
        return found("F6", [trial()], document={"executions": (execution(code=code),)})

    (text,) = found_of(replace(CODE, altered=True))
    assert text.startswith("the run: ")
    assert "0123456789ab" in text
    for known in (CODE, Code(commit=None, altered=None)):
        assert found_of(known) == []


def test_f6_a_run_that_went_on_with_other_code() -> None:
    began, other = execution(code=CODE), execution(code=replace(CODE, commit="fedcba9876543210"))
    assert found("F6", [trial()], document={"executions": (began, began)}) == []
    (text,) = found("F6", [trial()], document={"executions": (began, began, other)})
    assert "other code than it began with (commits 0123456789ab, fedcba987654)" in text


def test_f6_a_run_that_was_resumed_with_other_versions_or_on_other_hardware() -> None:
    hardware = Hardware(gpu="NVIDIA H100", gpus=1, machine="x86_64", system="linux", cpus=16)
    began = execution(packages={"torch": "2.14.1", "ray": "2.60.0", "kornia": None}, hardware=hardware)
    # The head of a cluster has no GPU of its own, and the number of CPUs moves no error.
    head = replace(began, hardware=replace(hardware, gpu=None, cpus=2))
    assert found("F6", [trial()], document={"executions": (began, began, head)}) == []
    moved = execution(
        packages={"torch": "2.15.0", "ray": "2.60.0", "kornia": "0.9.0"},
        hardware=replace(hardware, gpu="NVIDIA H200"),
    )
    (text,) = found("F6", [trial()], document={"executions": (began, head, moved, began)})
    assert text.startswith(
        "the run: it was resumed with other versions or hardware than it began with (torch 2.14.1, 2.15.0; "
        "gpu NVIDIA H100, NVIDIA H200), which"
    )


def test_f6_a_run_that_was_extended_with_other_plugins() -> None:
    def extension(**changes: Change) -> Extension:
        return Extension(created="2026-01-02T03:04:05+00:00", command=("sweep",), changes=changes)

    seeds, plugin = Change(recorded="3", given="5"), Change(recorded="sha256 0", given="sha256 1")
    first, second = extension(seeds=seeds), extension(seeds=seeds, **{"mine.py": plugin})
    assert found("F6", [trial()], document={"extended": (first,)}) == []
    (text,) = found("F6", [trial()], document={"extended": (first, second)})
    assert "it was extended with other contents of its plugins (mine.py), which may train differently." in text


# F7


def test_f7_an_order_opposite_to_the_papers() -> None:
    # The paper has 9.74, 10.19 and 9.08 for these. Of three pairs one agrees: tau is -1/3.
    wrong = [
        trial("model-c", test_error=0.1),
        trial("strided-cnn-c", test_error=0.2),
        trial("all-cnn-c", test_error=0.3),
    ]
    (text,) = found("F7", wrong)
    assert text.startswith("cifar10/none: the order of 3 variants is opposite to the paper's (Kendall's tau -0.33)")
    right = [
        trial("model-c", test_error=0.2),
        trial("strided-cnn-c", test_error=0.3),
        trial("all-cnn-c", test_error=0.1),
    ]
    assert found("F7", right) == []


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_f7_applies_under_both_protocols(protocol: str) -> None:
    phase = "search" if protocol == "paper" else "confirm"
    errors = {"model-c": 0.1, "strided-cnn-c": 0.2, "all-cnn-c": 0.3}
    trials = [trial(variant) for variant in errors] if protocol == "holdout" else []
    trials += [trial(variant, phase=phase, test_error=error) for variant, error in errors.items()]
    assert len(found("F7", trials, fields={"protocol": protocol})) == 1


def test_f7_needs_three_variants_of_the_paper_natural_images_and_an_order() -> None:
    two = [trial("strided-cnn-c", test_error=0.1), trial("all-cnn-c", test_error=0.2)]
    assert found("F7", two) == []
    assert found("F7", [*two, trial("mine", test_error=0.3)]) == []
    assert found("F7", [*two, trial("model-c", state="failed")]) == []
    three = [*two, trial("model-c", test_error=0.3)]
    assert len(found("F7", three)) == 1
    assert found("F7", three, generated=True) == []
    assert found("F7", [row | {"augmentation": "flip-shift"} for row in three]) == []
    assert found("F7", [row | {"test_error": 0.9} for row in three]) == []


# F8


def test_f8_a_choice_on_the_test_error() -> None:
    trials = [trial(), trial(lr=0.1)]
    (text,) = found("F8", trials)
    assert text.startswith("the run: hyperparameters were chosen on the same test error that is shown")
    assert found("F8", trials, fields=HOLDOUT) == []


def test_f8_one_configuration_is_no_choice() -> None:
    assert found("F8", [*seeds("a", 0.1, 0.2), *seeds("b", 0.1, lr=0.1), trial("a", 0.25, state="diverged")]) == []


# F10


def test_f10_chosen_networks_at_chance() -> None:
    # A guess errs on 90 % of ten classes, with a standard error of 0.3 points on 10,000 images.
    errors = {"a": 0.895, "b": 0.893, "c": 1.0}
    trials = [*(trial(name, test_error=error) for name, error in errors.items()), trial("d", state="failed")]
    (text,) = found("F10", trials)
    assert text.startswith("a, c: at chance, so that the row says nothing of the architecture. Advice: ")


def test_f10_chance_is_that_of_the_number_of_classes() -> None:
    trials = [trial(dataset="cifar100", test_error=0.985)]
    fields = {"datasets": ("cifar100",)}
    assert found("F10", trials, images={"cifar100": data(num_classes=100)}, fields=fields) == []


# F11


def test_f11_a_mean_over_the_seeds_that_were_lucky() -> None:
    trials = [*seeds("a", 0.1, 0.2), trial("a", seed=2, state="diverged"), *seeds("b", 0.1)]
    (text,) = found("F11", trials)
    assert text.startswith(
        "a: 1 seed of the chosen configuration diverged, failed or was stopped, and the mean leaves it"
    )
    (text,) = found("F11", [*trials, trial("b", seed=1, state="failed")])
    assert text.startswith("all 2 rows: 2 seeds of the chosen configuration diverged, failed or were stopped")
    assert found("F11", seeds("a", 0.1, 0.2)) == []


# F12


def none_completed(*states: str, planned: int | None = None) -> list[str]:
    """Return F12 of a cell whose trials at one learning rate each ended so, beside one that is well."""
    rates = tuple(0.01 * number for number in range(1, (planned or len(states)) + 1))
    ended = [trial("a", lr, state=state) for lr, state in zip(rates, states, strict=False)]
    well = [trial("b", lr, state="failed" if lr > 0.01 else "completed") for lr in rates]
    return found("F12", [*ended, *well], learning_rates=rates)


def test_f12_a_cell_whose_last_trial_failed_after_the_others_were_stopped() -> None:
    assert none_completed("stopped", "failed", "stopped") == [
        "a: no trial completed (2 stopped, 1 failed). "
        "Advice: fix the cause, which the column reason of trials.parquet names, then run it again without early "
        "stopping."
    ]
    (text,) = none_completed("diverged", "failed")
    assert "(1 diverged, 1 failed)" in text
    assert text.endswith("then --resume --retry-failed.")
    (text,) = none_completed("stopped", "diverged")
    assert "(1 stopped, 1 diverged)" in text


@pytest.mark.parametrize("state", ["completed", "running", "pending"])
def test_f12_a_cell_that_has_a_full_length_trial_or_may_yet_have_one(state: str) -> None:
    assert none_completed("failed", "stopped", state) == []
    assert none_completed("failed", "stopped", planned=3) == []


def test_f12_says_nothing_twice_and_nothing_of_what_has_not_begun() -> None:
    assert none_completed("diverged", "diverged") == []
    assert none_completed(planned=2) == []
    assert found("F12", []) == []


def test_f12_counts_the_trials_of_another_search_than_the_grid() -> None:
    trials = [trial(state="failed"), trial(lr=0.04, state="stopped")]
    assert len(found("F12", trials, search="random", trials_per_cell=2)) == 1
    assert found("F12", trials, search="random", trials_per_cell=3) == []


def test_f12_counts_the_points_of_each_variants_own_space() -> None:
    trials = [trial("a", state="failed"), *(trial("b", state="failed", dropout=value) for value in (0.1, 0.2))]
    fields = {"space": Space(), "spaces": {"b": Space(dropout=Choice((0.1, 0.2, 0.3)))}}
    (text,) = found("F12", trials, fields=fields)
    assert text.startswith("a: no trial")
    assert len(found("F12", [*trials, trial("b", state="failed", dropout=0.3)], fields=fields)) == 2


# F13


def test_f13_classes_that_no_image_is_told_by() -> None:
    (text,) = found("F13", [trial(dead_classes=3), trial("model-c", dead_classes=0), trial("model-c", lr=0.01)])
    assert text.startswith("all-cnn-c: 3 of 10 classes have the same output for every image, so that the error says")
    # A trial that was not selected stands behind no error.
    assert found("F13", [trial(lr=0.1, test_error=0.3, dead_classes=3), trial(test_error=0.1, dead_classes=0)]) == []


def test_f13_counts_the_seeds_that_confirm() -> None:
    searched = trial(test_error=None, val_error=0.2, dead_classes=1)
    confirmed = [
        trial(phase="confirm", seed=seed, test_error=0.3, dead_classes=dead) for seed, dead in enumerate((2, 0))
    ]
    fields = {"protocol": "holdout"}
    (text,) = found("F13", [searched, *confirmed], fields=fields)
    assert "2 of 10 classes have the same output for every image with 1 of 2 seeds, so" in text
    (text,) = found("F13", [searched], fields=fields)
    assert "1 of 10 classes have the same output for every image, so" in text

from typing import Any

import pytest

from analysis import VariantResult, compare

STATES = {"completed": 3, "stopped": 0, "diverged": 0, "failed": 0, "running": 0, "pending": 0}


def result(variant: str, *errors: float, **values: Any) -> VariantResult:
    fields: dict[str, Any] = {
        "dataset": "cifar10",
        "augmentation": "none",
        "lr": 0.05,
        "params": {"lr": 0.05},
        "tried": {},
        "seed": None,
        "validation_error": None,
        "lost_seeds": 0,
        "chosen": (),
        "epochs": 350,
        "num_parameters": 10,
        "states": STATES,
    }
    return VariantResult(variant=variant, errors=errors, **(fields | values))


REFERENCE = result("all-cnn-c", 0.100, 0.102, 0.101)


def test_a_difference_beyond_the_seeds_and_one_within() -> None:
    far, near = compare([REFERENCE, result("a", 0.2, 0.201, 0.202), result("b", 0.1, 0.103, 0.104)], "all-cnn-c")
    assert far.difference == pytest.approx(0.1)
    assert far.verdict == "significant"
    assert near.difference == pytest.approx(0.004 / 3)
    assert near.verdict == "not significant"
    assert near.half_width is not None
    assert near.half_width > abs(near.difference)
    # Two comparisons: the smaller p counts twice, the larger stays.
    assert far.p is not None
    assert (far.p_holm, near.p_holm) == (pytest.approx(2 * far.p), near.p)


def test_what_one_comparison_shows_many_may_not() -> None:
    # p is 0.0214 alone: below 5 %, and three times it is above.
    seen, other = result("a", 0.1, 0.11, 0.12), result("b", 0.13, 0.14, 0.15)
    alone = compare([seen, other], "a")
    assert [one.verdict for one in alone] == ["significant"]
    same = [result(name, 0.1, 0.11, 0.12) for name in ("c", "d")]
    assert compare([seen, other, *same], "a")[0].verdict == "not significant"


def test_comparisons_that_are_not_known_correct_no_other() -> None:
    results = [REFERENCE, result("a", 0.2, 0.201, 0.202), result("b", 0.1), result("c")]
    known, single, none = compare(results, "all-cnn-c")
    assert known.p_holm == known.p
    assert [one.verdict for one in (single, none)] == ["not known: fewer than 2 seeds"] * 2
    assert single.difference == pytest.approx(-0.001)
    assert (none.difference, none.p, none.half_width) == (None, None, None)


def test_a_reference_of_one_seed_leaves_all_unknown() -> None:
    (one,) = compare([result("a", 0.1), result("b", 0.1, 0.2)], "a")
    assert one.verdict == "not known: fewer than 2 seeds"


def test_seeds_that_are_all_at_chance_leave_it_unknown() -> None:
    (one,) = compare([result("a", 0.9, 0.9), result("b", 0.9, 0.9)], "a")
    assert (one.verdict, one.difference) == ("not known: the seeds do not differ", 0)


def test_each_data_set_and_augmentation_has_its_own_reference() -> None:
    cells = [
        result(variant, error, dataset=dataset)
        for dataset, errors in (("cifar10", (0.1, 0.2)), ("cifar100", (0.5, 0.4)))
        for variant, error in zip("ab", errors, strict=True)
    ]
    assert [one.difference for one in compare(cells, "a")] == pytest.approx([0.1, -0.1])
    flipped = result("b", 0.3, augmentation="flip-shift")
    assert [one.result.augmentation for one in compare([*cells, flipped], "a")] == ["none", "none"]


@pytest.mark.parametrize(
    ("variants", "reference", "text"),
    [
        ("ab", "c", r"^compare must be one of the run's variants, a, b, got 'c'\.$"),
        ("a", "a", r"^compare must leave a variant to compare with it, got 'a', which stands alone\.$"),
    ],
)
def test_a_reference_that_is_none_is_refused(variants: str, reference: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        compare([result(name, 0.1) for name in variants], reference)

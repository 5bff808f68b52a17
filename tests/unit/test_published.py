import pytest

from analysis.published import PAPER_ERRORS, PUBLISHED, published_error

TABLE_3 = {
    "model-a": 12.47,
    "model-b": 10.20,
    "model-c": 9.74,
    "strided-cnn-a": 13.46,
    "strided-cnn-b": 10.98,
    "strided-cnn-c": 10.19,
    "convpool-cnn-a": 10.21,
    "convpool-cnn-b": 9.33,
    "convpool-cnn-c": 9.31,
    "all-cnn-a": 10.30,
    "all-cnn-b": 9.10,
    "all-cnn-c": 9.08,
}


def test_the_papers_table_3() -> None:
    ours = {key[2]: value.error_percent for key, value in PAPER_ERRORS.items() if key[:2] == ("cifar10", "none")}
    assert ours == TABLE_3
    assert {v.source for k, v in PAPER_ERRORS.items() if k[:2] == ("cifar10", "none")} == {
        "Springenberg et al. 2015, arXiv 1412.6806v3, Table 3"
    }


@pytest.mark.parametrize(("cell", "error"), [(("cifar10", "flip-shift"), 7.25), (("cifar100", "none"), 33.71)])
def test_the_papers_table_4(cell: tuple[str, str], error: float) -> None:
    found = published_error(*cell, "all-cnn-c", "paper")
    assert found is not None
    assert found.error_percent == error
    assert found.source.endswith("Table 4")


@pytest.mark.parametrize(
    "cell",
    [
        ("shapes", "none", "all-cnn-c", "paper"),
        ("cifar10", "none", "all-cnn-c", "holdout"),
        ("cifar10", "flip-shift", "model-a", "paper"),
        ("cifar100", "flip-shift", "all-cnn-c", "paper"),
        ("cifar10", "none", "mine", "paper"),
    ],
)
def test_no_number_stands_where_the_paper_printed_none(cell: tuple[str, str, str, str]) -> None:
    assert published_error(*cell) is None


def test_no_number_stands_twice_and_each_says_how_it_is_known() -> None:
    places = [(entry.dataset, entry.augmentation, entry.method) for entry in PUBLISHED]
    assert len(set(places)) == len(places) == 12 + 3 + 6 + 8 + 4 + 2
    assert {entry.method for entry in PUBLISHED if entry.confidence == "memory"} == {
        "CNN + tree prior",
        "Fractional max-pooling (1 test)",
        "Spatially sparse CNN",
        "Large ALL-CNN",
        "Fractional max-pooling (100 tests)",
    }


def test_a_number_from_memory_says_so_wherever_its_source_is_printed() -> None:
    large = next(entry for entry in PUBLISHED if entry.method == "Large ALL-CNN")
    assert (large.error_percent, large.augmentation) == (4.41, "heavy")
    assert published_error("cifar10", "heavy", "large-all-cnn", "paper") == large
    assert large.source == "Springenberg et al. 2015, arXiv 1412.6806v3 (memory only)"
    assert next(entry for entry in PUBLISHED if entry.method == "dasNet").source.endswith("Table 4 (one source only)")

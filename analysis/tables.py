"""The comparison table of a run: rows of text, what stands out in them, and remarks."""

from collections import Counter
from collections.abc import Sequence

from analysis.comparison import Comparison
from analysis.formats import MISSING, TIE, Mark, Marks, Row, as_cell, counted, percent
from analysis.inference import binomial_standard_error, welch
from analysis.published import LARGE, PUBLISHED, Published, differences, published_error, settings_of
from analysis.results import COUNTED_STATES, By, VariantResult, several_places
from analysis.run_data import Evidence
from search_spaces import Scalar
from search_spaces.dimensions import in_words
from sweep.record.document import RunDocument
from sweep.record.params import label
from sweep.record.schema import EpochRow
from sweep.study.study import Study

PLUS_MINUS = "± 95 %"
"""Column of half an interval: a number of its own in every format."""

ERRORS_ARE = {
    "paper": "Errors are test errors after the last epoch of completed trials.",
    "holdout": "Errors are test errors, after the last epoch, of the configuration with the lowest validation error, "
    "trained anew on all training images with fresh seeds; hyperparameters were chosen on images held out of "
    "training.",
}
"""By protocol."""

NO_TEST_ERROR = (
    "No test error was read, since seeds is 0. Validation errors are those of the selected configuration, on training "
    "images held out of its training."
)
"""In place of `ERRORS_ARE` where a run confirms nothing."""

LARGE_NOTE = (
    "The paper does not say how it trained and augmented for large-all-cnn: learning rates, epochs, batch size, weight "
    "decay, preprocessing and the strengths of the augmentation are the study's own."
)


def table_rows(results: Sequence[VariantResult], document: RunDocument, by: By = "variant") -> list[Row]:
    """Return a row of text per result, errors in percent; all rows have the same columns in the same order.

    Args:
        results: what the table shows.
        document: contents of the run's study.json.
        by: what makes a row.
    """
    several_cells = several_places(results)
    several_seeds = any(result.num_seeds > 1 for result in results)
    searched = headings_of(searched_beside_the_rate(results))
    published = published_of(results, document)
    rows = []
    for result, paper in zip(results, published, strict=True):
        row = {"data set": result.dataset, "augmentation": result.augmentation} if several_cells else {}
        row["variant"] = result.variant
        if by == "seed":
            row["seed"] = str(result.seed)
        row[error_heading(document.study.protocol, by)] = percent(result.error)
        if several_seeds:
            row[PLUS_MINUS] = percent(result.half_width)
            row["sd"] = percent(result.error_sd)
            row["seeds"] = str(result.num_seeds)
        if document.study.protocol == "holdout":
            row["validation %"] = percent(result.validation_error)
        row["learning rate"] = as_cell(result.lr, "g")
        for name, heading in searched.items():
            row[heading] = in_words(result.params[name]) if name in result.params else MISSING
        row["epochs"] = str(result.epochs)
        row["parameters"] = as_cell(result.num_parameters, ",")
        if any(published) and by == "variant":
            # The paper printed the best of its learning rates, which stands beside no single rate or seed.
            row["paper %"] = f"{paper.error_percent:.2f}" if paper else MISSING
        row |= {state: str(result.states[state]) for state in COUNTED_STATES}
        unfinished = result.states["running"] + result.states["pending"]
        if any(r.states["running"] + r.states["pending"] for r in results):
            row["unfinished"] = str(unfinished)
        rows.append(row)
    return rows


def searched_beside_the_rate(results: Sequence[VariantResult]) -> list[str]:
    """Return the hyperparameters besides the learning rate of which the results' trials tried several values."""
    tried: dict[str, set[Scalar]] = {}
    for result in results:
        for name, values in result.tried.items():
            tried.setdefault(name, set()).update(values)
    return [name for name in sorted(tried) if name != "lr" and len(tried[name]) > 1]


_TAKEN = frozenset(
    {"data set", "augmentation", "variant", "seed", "sd", "seeds", "learning rate", "epochs", "parameters"}
    | {"unfinished", "trial", "phase", "state", "reason", "seconds", *COUNTED_STATES}
)
"""Headings of tables of results and of trials."""


def headings_of(names: Sequence[str]) -> dict[str, str]:
    """Return the heading of each hyperparameter by its name.

    An option of a variant's own stands under its whole name, `options.dropout`, where another column has the short one.
    """
    short = Counter(map(label, names))
    return {
        name: name if "." in name and (label(name) in _TAKEN or short[label(name)] > 1) else label(name)
        for name in names
    }


def error_heading(protocol: str, by: By) -> str:
    """Return the heading of a table's errors."""
    # Under `paper` it is the lowest of all rates; `holdout` reads the test error of what other images have chosen.
    if protocol == "holdout":
        return "test error %" if by == "seed" else "mean test error %"
    return "error %" if by == "lr" else "best error %"


def marks_of(results: Sequence[VariantResult], document: RunDocument, by: By = "variant") -> tuple[Marks, list[str]]:
    """Return which errors of a table stand out, by row and heading, and what a reader must know of that.

    The lowest error of each data set and augmentation is the best; by learning rate, of each variant. An error ties
    with it where it is not significantly worse, by Welch's t-test at 5 % of the two alone; one of a single seed has no
    such interval and ties with nothing. A table by seed has none: its best row is the luckiest.

    Args:
        results: what the table shows.
        document: contents of the run's study.json.
        by: what makes a row.
    """
    heading = error_heading(document.study.protocol, by)
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, result in enumerate(results):
        if result.error is not None and by != "seed":
            groups.setdefault(result.cell if by == "lr" else result.cell[:2], []).append(place)
    marks: dict[tuple[int, str], Mark] = {}
    for places in groups.values():
        best = min(places, key=lambda place: results[place].error or 0.0)
        if len(places) > 1:
            marks[best, heading] = "best"
            marks |= {(place, heading): "tie" for place in places if place != best and _ties(results, place, best)}
    if not marks:
        return {}, []
    found = [f"Bold: the lowest error of each {'variant' if by == 'lr' else 'data set and augmentation'}."]
    if "tie" in marks.values():
        found.append(
            f"{TIE}: not significantly worse than the lowest (Welch's t-test at 5 %, each alone, uncorrected)."
        )
    return marks, found


def _ties(results: Sequence[VariantResult], place: int, best: int) -> bool:
    test = welch(results[place].errors, results[best].errors)
    difference = (results[place].error or 0.0) - (results[best].error or 0.0)
    return test is not None and difference <= test.half_width


def comparison_rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return a row of text per comparison, errors in percent and their differences in points of it.

    Args:
        comparisons: all with one reference.
    """
    several_cells = several_places(one.result for one in comparisons)
    rows = []
    for one in comparisons:
        row = {"data set": one.result.dataset, "augmentation": one.result.augmentation} if several_cells else {}
        row |= {
            "variant": one.result.variant,
            "seeds": str(one.result.num_seeds),
            "error %": percent(one.result.error),
            f"{one.reference.variant} %": percent(one.reference.error),
            "difference": as_cell(None if one.difference is None else 100 * one.difference, "+.2f"),
            PLUS_MINUS: percent(one.half_width),
            "p": as_cell(one.p, ".2g"),
            "p (Holm)": as_cell(one.p_holm, ".2g"),
            "difference is": one.verdict,
        }
        rows.append(row)
    return rows


def comparison_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return what a reader must know of the differences."""
    tests = sum(one.p is not None for one in comparisons)
    reference = comparisons[0].reference
    numbers = sorted({one.reference.num_seeds for one in comparisons})
    seeds = " or ".join(counted(number, "seed") for number in numbers)
    return [
        f"Differences are to {reference.variant} ({seeds}), in points of error, "
        f"{PLUS_MINUS} half of the interval of each alone; p is that of Welch's t-test, p (Holm) the same corrected "
        f"for their number, {tests}.",
        "These tests cover seed variance only, not the hyperparameter search or the choice of test images.",
    ]


def published_rows() -> list[Row]:
    """Return a row of text per published error."""
    return [
        {
            "data set": entry.dataset,
            "augmentation": entry.augmentation,
            "method": entry.method,
            "error %": f"{entry.error_percent:.2f}",
            "variant": entry.variant or MISSING,
            "parameters": entry.parameters or MISSING,
            "place": entry.table or MISSING,
            "known from": entry.confidence,
        }
        for entry in PUBLISHED
    ]


def reported_rows(rows: Sequence[EpochRow]) -> list[Row]:
    """Return a row of text per trial of which the epochs alone are known, errors in percent after its last one.

    Args:
        rows: of `epochs`, a trial's last each.
    """
    return [
        {
            "trial": row["trial_id"],
            "epochs": str(row["epoch"]),
            "validation %": percent(row["val_error"]),
            "test %": percent(row["test_error"]),
        }
        for row in rows
    ]


def reported_note(evidence: Evidence) -> str:
    """Return what a reader must know of `reported_rows`."""
    return (
        f"trials.parquet is lost: these are the {len(evidence.reported)} trials that epochs hold rows of, each after "
        "its last epoch that is there. How they ended, and which would be chosen, is not known; a trial's cell is "
        "the beginning of its name."
    )


def notes(results: Sequence[VariantResult], document: RunDocument, *, paper: bool = True) -> list[str]:
    """Return what a reader must know of the table: what its errors are, and how far the paper's numbers apply.

    Args:
        results: what the table shows.
        document: contents of the run's study.json.
        paper: whether the paper's numbers may stand there.
    """
    images = {name: data.train_images for name, data in document.data.items()}
    is_test = document.study.reads_test_errors
    found = [ERRORS_ARE[document.study.protocol] if is_test else NO_TEST_ERROR, *_chance_notes(results, document)]
    published = [entry for entry in published_of(results, document) if entry]
    if published and paper:
        found.append(f"Paper: {', '.join(sorted({entry.source for entry in published}))}.")
        found += _comparability(published, document.study, max(images[result.dataset] for result in results))
    found += generated_notes(document)
    done, planned = sum(sum(r.states[s] for s in COUNTED_STATES) for r in results), document.planned_trials
    if done < planned:
        found.append(f"{done} of {planned} planned trials have ended.")
    return found


def _chance_notes(results: Sequence[VariantResult], document: RunDocument) -> list[str]:
    """Return how far seeds and the draw of the test images leave errors open."""
    found = []
    if any(result.num_seeds > 1 for result in results):
        found.append(
            f"{PLUS_MINUS}: half of the interval of the mean over the seeds, by Student's t; sd: the seeds' own spread."
        )
    for name in dict.fromkeys(result.dataset for result in results if result.error is not None):
        count = document.data[name].test_images
        widest = max(
            binomial_standard_error(error, count)
            for result in results
            if result.dataset == name
            for error in result.errors
        )
        found.append(
            f"Test-set sampling error of {name}: up to ±{100 * widest:.2f} points (binomial standard error, "
            f"n = {count:,})."
        )
    return found


def generated_notes(document: RunDocument) -> list[str]:
    """Return a sentence for each data set that is not one of photographs.

    Args:
        document: contents of the run's study.json.
    """
    return [
        f"The data set {name} is generated: its errors say nothing about natural images."
        for name in _generated(document)
    ]


def _generated(document: RunDocument) -> list[str]:
    return [name for name, data in document.data.items() if data.generated]


def published_of(results: Sequence[VariantResult], document: RunDocument) -> list[Published | None]:
    """Return the paper's entry beside each result, None where it has none, and for all beside generated images.

    Args:
        results: of one run.
        document: contents of the run's study.json.
    """
    if _generated(document):
        # Made-up images stand beside no published number, not even in another row.
        return [None] * len(results)
    protocol = document.study.protocol
    return [published_error(result.dataset, result.augmentation, result.variant, protocol) for result in results]


def _comparability(published: Sequence[Published], study: Study, train_images: int) -> list[str]:
    """Return why variants are not comparable with the paper's: one sentence for those that differ alike."""
    settings = {entry.variant or "": settings_of(entry) for entry in published}
    variants: dict[tuple[str, ...], list[str]] = {}
    for variant, theirs in settings.items():
        variants.setdefault(tuple(differences(study, variant, train_images, theirs)), []).append(variant)
    found = []
    for different, names in variants.items():
        are_all = len(names) == len(settings) and LARGE not in names
        whose = "numbers" if are_all else f"{'number' if len(names) == 1 else 'numbers'} of {', '.join(names)}"
        if different:
            found.append(f"Not comparable with the paper's {whose}: {', '.join(different)}.")
    return [*found, *([LARGE_NOTE] if LARGE in settings else [])]

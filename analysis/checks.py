"""Numbered findings: what makes a table say less than it seems to. A number keeps its meaning; F9 is unused.

docs/findings.md lists them. A check that does not apply finds nothing.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.formats import counted
from analysis.inference import binomial_standard_error, kendall_tau
from analysis.published import PAPER_ERRORS
from analysis.results import COUNTED_STATES, VariantResult
from analysis.run_data import Evidence
from search_spaces import Choice, LogUniform, Space
from sweep.record.document import Data, Execution, RunDocument
from sweep.record.params import label
from sweep.record.selection import criterion_column

FEW_SEEDS = 3
"""Two seeds have a spread, and an interval of 13 times it."""

EDGE = 0.1
"""Part of a range's logarithm, at either end, where a best value counts as being at the edge."""

LEAST_RANKED = 3
"""Variants that make an order: two are opposite to the paper's by the toss of a coin."""


Check = Callable[[Evidence], Iterator[str]]


def best_at_the_edge(evidence: Evidence) -> Iterator[str]:
    """F1: the best value of a hyperparameter is at an end of those searched; one beyond may be better.

    The end of listed numbers is the outermost one; that of a range is its outer tenth, of its logarithm where it is
    searched by that. Listed texts and truths have no ends, and nothing lies below 0.
    """
    for name in evidence.study.searched:
        found = [_end_of(result, name, evidence.study.space_of(result.variant)) for result in evidence.results]
        for end in ("upper", "lower"):
            at_it = [result for result, where in zip(evidence.results, found, strict=True) if where == end]
            if at_it:
                yield (
                    f"{evidence.names(at_it)}: the best {label(name)} lies at the {end} end of those searched; one "
                    f"beyond may be better. Advice: search {'higher' if end == 'upper' else 'lower'} values too."
                )


def few_seeds(evidence: Evidence) -> Iterator[str]:
    """F2: fewer than three seeds behind an error."""
    found = [result for result in evidence.results if 0 < result.num_seeds < FEW_SEEDS]
    if found:
        yield (
            f"{evidence.names(found)}: fewer than {FEW_SEEDS} seeds, which cannot tell a variant's error from its "
            f"luck. Advice: run with --seeds {FEW_SEEDS} or more."
        )


def all_diverged(evidence: Evidence) -> Iterator[str]:
    """F3: every trial of a cell diverged, which says nothing about the variant."""
    found = [r for r in evidence.results if 0 < r.states["diverged"] == sum(r.states.values())]
    if found:
        yield (
            f"{evidence.names(found)}: every trial diverged, which says something about the recipe and nothing about "
            "the variant. Advice: try lower learning rates, --set warmup_epochs=1 or --set class_relu=no."
        )


def stopped_while_ahead(evidence: Evidence) -> Iterator[str]:
    """F4: a trial was stopped though its error was lower than the chosen configuration's at that epoch, or at its end.

    Early stopping judges a trial by those that came to the same epoch before it. One that was ahead of the later winner
    and was stopped nevertheless says that the order in which trials ran had a say in the table. Errors are those that
    the choice looks at; the chosen configuration's are means over its seeds, and its own seeds are no rivals of it.
    """
    column = criterion_column(evidence.study.protocol)
    curves = {(row["trial_id"], row["epoch"]): row[column] for row in evidence.epochs}
    for result in evidence.results:
        winners = [row for row in evidence.searched(result) if row["trial_id"] in result.chosen]
        if not winners:
            continue
        at_end = statistics.fmean(error for row in winners if (error := row[column]) is not None)
        ahead = []
        for row in evidence.searched(result):
            error = row[column]
            if row["state"] != "stopped" or error is None or row["params"] == winners[0]["params"]:
                continue
            then = [curves.get((winner["trial_id"], row["epochs_run"])) for winner in winners]
            known = [error for error in then if error is not None]
            # Without their curves the winners are known at their end alone.
            at_epoch = statistics.fmean(known) if known else at_end
            if error < max(at_epoch, at_end):
                ahead.append((row, error, at_epoch))
        if ahead:
            worst, error, at_epoch = min(ahead, key=lambda one: one[1] - one[2])
            below_end = sum(error < at_end for _, error, _ in ahead)
            yield (
                f"{evidence.names([result])}: {counted(len(ahead), 'trial was', 'trials were')} stopped while ahead "
                f"of the chosen configuration, {below_end} of them below its error at the end; at learning "
                f"rate {worst['lr']:g}, {100 * error:.2f} % after epoch {worst['epochs_run']} against "
                f"{100 * at_epoch:.2f} %. Advice: run without early stopping, or let it begin later."
            )


def stopped_before_the_drop(evidence: Evidence) -> Iterator[str]:
    """F5: trials were stopped before the learning rate had dropped, when low rates look better than they end up."""
    drops = evidence.study.base.drops
    stopped = [row for row in evidence.trials if row["state"] == "stopped"] if drops else []
    # Averaged weights, by which halving goes, rank rates better: docs/decisions/0013.
    halving = evidence.study.early_stopping == "halving"

    def is_early(row: Mapping[str, Any]) -> bool:
        drop = round(drops[0] * row["epochs_budget"])
        return bool(row["epochs_run"] < drop // 2 if halving else row["epochs_run"] <= drop)

    early = [row for row in stopped if is_early(row)]
    if early:
        variants = ", ".join(dict.fromkeys(row["variant"] for row in early))
        yield (
            f"{variants}: {counted(len(early), 'trial was', 'trials were')} stopped before "
            f"{'halfway to where ' if halving else ''}the learning rate first dropped, when low rates look better than "
            "they end up. Advice: let early stopping begin later, as it does by default."
        )


def mixed_conditions(evidence: Evidence) -> Iterator[str]:
    """F6: not all trials ran by the same code on the same hardware with the same arithmetic.

    Nodes are counted too: of a processor the record knows no more than the name of its machine.
    """
    mixed = []
    for name in ("device", "node", "precision", "memory_format", "compiled"):
        if name in evidence.study.searched:
            continue
        counts = Counter(row[name] for row in evidence.trials if row[name] is not None)
        if len(counts) > 1:
            each = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            mixed.append(f"{name.replace('_', ' ')} {each if name != 'node' else f'{len(counts)} names'}")
    if mixed:
        yield (
            f"the run: trials differ in {'; '.join(mixed)}, which can move errors as a seed does. "
            "Advice: compare trials of one kind of machine; set precision, memory_format and compiled by --set."
        )
    yield from _mixed_executions(evidence.document)


def _mixed_executions(document: RunDocument) -> Iterator[str]:
    executions = document.executions
    commits = list(dict.fromkeys(str(execution.code.commit)[:12] for execution in executions))
    if len(commits) > 1:
        yield (
            f"the run: it went on with other code than it began with (commits {', '.join(commits)}), which may train "
            "differently. Advice: look at what changed between them, or run it anew."
        )
    if differing := _differing(executions):
        yield (
            f"the run: it was resumed with other versions or hardware than it began with ({'; '.join(differing)}), "
            "which can move errors as a seed does. Advice: compare trials of one machine and one set of versions."
        )
    plugins = [name for each in document.extended for name in each.changes if ".py" in name]
    if plugins:
        yield (
            f"the run: it was extended with other contents of its plugins ({', '.join(dict.fromkeys(plugins))}), which "
            "may train differently. Advice: compare trials of one state of them only."
        )
    if any(execution.code.altered for execution in executions):
        yield (
            f"the run: uncommitted changes on top of {', '.join(commits)}: this run cannot be traced to a version. "
            "Advice: commit before a run whose table is to be shown."
        )


def order_opposite_to_the_papers(evidence: Evidence) -> Iterator[str]:
    """F7: the variants come out in an order opposite to the paper's, which marks a broken recipe, not a finding.

    Opposite is a Kendall's tau below 0 between our errors and the paper's, over the variants of a data set and
    augmentation that have both; three of them at the least, and never for generated images.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for r in evidence.results:
        paper = PAPER_ERRORS.get(r.cell)
        if paper and r.error is not None and not any(data.generated for data in evidence.document.data.values()):
            groups.setdefault(r.cell[:2], []).append((r.error, paper.error_percent))
    for (dataset, augmentation), pairs in groups.items():
        if len(pairs) < LEAST_RANKED:
            continue
        tau = kendall_tau(*zip(*pairs, strict=True))
        if tau is not None and tau < 0:
            yield (
                f"{dataset}/{augmentation}: the order of {len(pairs)} variants is opposite to the paper's "
                f"(Kendall's tau {tau:.2f}), which marks a broken recipe rather than a finding. Advice: "
                "look at dead starts, dropout and the learning rates before believing it."
            )


def chosen_on_test_error(evidence: Evidence) -> Iterator[str]:
    """F8: the protocol `paper` chooses by the test error that it then reports."""
    if evidence.study.protocol != "paper":
        return
    tried = [
        {row["params"] for row in evidence.searched(result) if row["state"] == "completed"}
        for result in evidence.results
    ]
    # A single learning rate is no choice.
    if any(len(configurations) > 1 for configurations in tried):
        yield (
            "the run: hyperparameters were chosen on the same test error that is shown, as the paper seems to have "
            "done, so that it flatters every variant a little. Advice: choose "
            "on images held out of training, --protocol holdout."
        )


def at_chance(evidence: Evidence) -> Iterator[str]:
    """F10: a chosen network guesses, but for two standard errors of the test set."""
    found = [
        result
        for result in evidence.results
        if result.error is not None and _is_at_chance(result.error, evidence.document.data[result.dataset])
    ]
    if found:
        yield (
            f"{evidence.names(found)}: at chance, so that the row says nothing of the architecture. "
            "Advice: find a recipe in which it learns: lower learning rates, less dropout, more epochs."
        )


def lost_seeds(evidence: Evidence) -> Iterator[str]:
    """F11: some seeds of a chosen configuration did not complete, and its mean is over the lucky ones."""
    found = [result for result in evidence.results if result.lost_seeds]
    if found:
        count = sum(result.lost_seeds for result in found)
        yield (
            f"{evidence.names(found)}: {counted(count, 'seed')} of the chosen configuration diverged, failed or "
            f"{'was' if count == 1 else 'were'} stopped, and the mean leaves {'it' if count == 1 else 'them'} out. "
            "Advice: read it as the error of a training that succeeds, or take a lower learning rate."
        )


def none_completed(evidence: Evidence) -> Iterator[str]:
    """F12: all planned trials of a cell's search have ended and none completed, so that the row has no error.

    Early stopping keeps one trial of each cell going, which can still fail or diverge after the others were stopped.
    Where all diverged it is F3 that says so.
    """
    for result in evidence.results:
        states = Counter(row["state"] for row in evidence.searched(result))
        all_ended = sum(states[state] for state in COUNTED_STATES) >= evidence.study.points_of(result.variant)
        if states["completed"] or not all_ended or states.keys() == {"diverged"}:
            continue
        counts = ", ".join(f"{states[state]} {state}" for state in COUNTED_STATES if states[state])
        cure = "run it again without early stopping" if states["stopped"] else "--resume --retry-failed"
        yield (
            f"{evidence.names([result])}: no trial completed ({counts}). "
            f"Advice: fix the cause, which the column reason of trials.parquet names, then {cure}."
        )


def dead_classes(evidence: Evidence) -> Iterator[str]:
    """F13: a network behind an error has classes whose logit is the same for every image.

    A ReLU on the class layer has died for them: they get no gradient any more, and each costs about its share of the
    images. One of ten dead classes makes an error of 10 % one of 19 %.
    """
    for result in evidence.results:
        behind = result.trials or [row for row in evidence.searched(result) if row["trial_id"] in result.chosen]
        counts = [row["dead_classes"] for row in behind if row["dead_classes"]]
        if counts:
            classes = evidence.document.data[result.dataset].num_classes
            seeds = f" with {len(counts)} of {len(behind)} seeds" if len(behind) > 1 else ""
            yield (
                f"{evidence.names([result])}: {max(counts)} of {classes} classes have the same output for every image"
                f"{seeds}, so that the error says more of the class layer than of the architecture. Advice: "
                "try another learning rate or initialisation, or --set class_relu=no."
            )


CHECKS: dict[str, Check] = {
    "F1": best_at_the_edge,
    "F2": few_seeds,
    "F3": all_diverged,
    "F4": stopped_while_ahead,
    "F5": stopped_before_the_drop,
    "F6": mixed_conditions,
    "F7": order_opposite_to_the_papers,
    "F8": chosen_on_test_error,
    "F10": at_chance,
    "F11": lost_seeds,
    "F12": none_completed,
    "F13": dead_classes,
}
"""Every check by its number, which never passes to another."""


def findings(evidence: Evidence) -> list[str]:
    """Return what every check finds, in words: `F1 model-c: ... Advice: ...`."""
    return [f"{number} {finding}" for number, check in CHECKS.items() for finding in check(evidence)]


def _differing(executions: Sequence[Execution]) -> list[str]:
    """Return in words the packages and parts of hardware that are not the same in all executions of a run."""
    packages = sorted({name for execution in executions for name in execution.packages})
    held = [{**one.packages, **asdict(one.hardware)} for one in executions]
    found = []
    for name in (*packages, "gpu", "machine", "system"):
        # None is no difference: the head of a cluster may have no GPU of its own.
        known = dict.fromkeys(value for each in held if (value := each.get(name)) is not None)
        if len(known) > 1:
            found.append(f"{name} {', '.join(known)}")
    return found


def _end_of(result: VariantResult, name: str, space: Space) -> str | None:
    """Return at which end of what was searched the best value of a number lies: `lower`, `upper` or neither."""
    value, dimension = result.params.get(name), space.get(name)
    if dimension is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    numbers = [end for end in dimension.ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < 2:
        return None
    low, high = min(numbers), max(numbers)
    if isinstance(dimension, Choice):
        low_edge, high_edge = float(low), float(high)
    elif isinstance(dimension, LogUniform):
        reach = (high / low) ** EDGE
        low_edge, high_edge = low * reach, high / reach
    else:
        low_edge, high_edge = low + EDGE * (high - low), high - EDGE * (high - low)
    if value >= high_edge:
        return "upper"
    return "lower" if value <= low_edge and low else None


def _is_at_chance(error: float, data: Data) -> bool:
    guess = 1 - 1 / data.num_classes
    return bool(error > guess - 2 * binomial_standard_error(guess, data.test_images))

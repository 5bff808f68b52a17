"""The direction of imports: search_spaces and trainables are leaves, sweep knows both, analysis knows the record.

The record is a run's rows and its study, with the dimensions that it searches. Within sweep `LAYERS` is the order.

How a command runs, and the garbage collector at its start and end, are the same for sweep and analysis: both may import
`sweep.cli.app` and `sweep.cli.garbage`, which know nothing of sweep.

`analysis.networks` looks into networks and knows trainables too, docs/decisions/0008.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces.paper import VARIANTS as PAPER_VARIANTS
from trainables.architectures import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("analysis", "search_spaces", "sweep", "trainables")


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def imports(file: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports, wherever in it; `from a import b` gives `a.b` too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} must import by full names"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def users(package: str) -> set[str]:
    """Return the files, relative to the root, that import a package."""
    return {
        file.relative_to(ROOT).as_posix()
        for ours in PACKAGES
        for file in modules(ours)
        if package in {top(name) for name in imports(file)}
    }


LAYERS = (
    ("study",),
    ("record",),
    ("search",),
    ("cluster",),
    ("execution",),
    ("monitor",),
    ("resume",),
    ("preparation", "session", "signals"),
    ("cli",),
    # Nothing but `python -m sweep.NAME`.
    ("init", "pack", "run", "spot", "status"),
)
"""The packages and modules of sweep, the lowest first: each imports of its own layer and of those below it only."""

CLIMBING: dict[tuple[str, str], str] = {}
"""Imports of a layer above, each with its reason. To be shortened, not added to."""

COMMON = ("sweep.cli.app", "sweep.cli.garbage")
"""How a command runs, and the garbage collector then: any package may know them."""

ALONE, ITS_COMMAND = "clusterfile", "sweep.cluster.__main__"
"""What checks cluster files knows no other package of sweep; the command that calls it is the one that knows it."""


def arrows() -> dict[tuple[str, str], str]:
    """Return which module of sweep imports which other module, to the part of sweep that this one is of."""
    found = {}
    for file in modules("sweep"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for other in imports(file):
            parts = other.split(".")
            is_module = (ROOT / "/".join(parts)).with_suffix(".py").is_file() or len(parts) == 2
            if parts[0] == "sweep" and len(parts) > 1 and is_module and not other.startswith(COMMON):
                found[name, other] = parts[1]
    return found


def test_every_part_of_sweep_has_a_layer() -> None:
    parts = {path.stem for path in (ROOT / "sweep").iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert {part for layer in LAYERS for part in layer} | {ALONE} == parts


def test_the_packages_of_sweep_import_downwards() -> None:
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    climbing = {
        (name, other)
        for (name, other), part in arrows().items()
        if name.split(".")[1] in height and part in height and height[part] > height[name.split(".")[1]]
    }
    assert climbing == set(CLIMBING), "an exception that is none any more is to be taken out"


def test_the_check_of_cluster_files_stands_alone() -> None:
    known_by = {name for (name, _), part in arrows().items() if part == ALONE and name.split(".")[1] != ALONE}
    assert known_by == {ITS_COMMAND}
    knows = {part for (name, _), part in arrows().items() if name.split(".")[1] == ALONE}
    assert knows == {ALONE}


def test_search_spaces_import_the_standard_library_only() -> None:
    for file in modules("search_spaces"):
        foreign = {top(name) for name in imports(file)} - set(sys.stdlib_module_names) - {"search_spaces"}
        assert not foreign, f"{file}: {foreign}"


def test_trainables_know_none_of_the_other_packages() -> None:
    for file in modules("trainables"):
        wrong = {top(name) for name in imports(file)} & {"analysis", "search_spaces", "sweep"}
        assert not wrong, f"{file}: {wrong}"


def test_only_the_worker_and_the_stream_of_trainables_know_ray() -> None:
    knowing = {file for file in users("ray") if file.startswith("trainables/")}
    assert knowing == {"trainables/worker.py", "trainables/data/stream.py"}


def test_analysis_knows_the_record_and_how_a_command_runs() -> None:
    # study.json holds the study itself, which says in dimensions what was searched.
    allowed = ("search_spaces", "sweep.record", "sweep.study.study", *COMMON)
    for file in modules("analysis"):
        ours = {name for name in imports(file) if top(name) in ("sweep", "trainables", "search_spaces")}
        wrong = {name for name in ours if not any(name == one or name.startswith(f"{one}.") for one in allowed)}
        if file.parent.name == "networks":
            wrong = {name for name in wrong if top(name) != "trainables"}
        assert not wrong, f"{file}: {wrong}"


@pytest.mark.parametrize("name", COMMON)
def test_how_a_command_runs_knows_nothing_of_sweep(name: str) -> None:
    ours = {each for each in imports(ROOT / f"{name.replace('.', '/')}.py") if top(each) in PACKAGES}
    assert all(each.startswith((*COMMON, "trainables.common.")) for each in ours), ours


def test_options_do_not_know_the_command_line() -> None:
    assert not {name for name in imports(ROOT / "sweep/study/options.py") if name.startswith("sweep.cli")}


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    heavy = "{'torch', 'matplotlib', 'ray', 'scipy'}"
    code = f"import sys, analysis.__main__; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sweep_does_not_know_analysis() -> None:
    assert not {file for file in users("analysis") if not file.startswith("analysis/")}


def test_optuna_is_known_in_three_places() -> None:
    # Which samplers there are; the search, which asks them; and the journal for people, kept apart from what the search
    # is told, docs/decisions/0010.
    assert users("optuna") == {
        "sweep/monitor/optuna_journal.py",
        "sweep/search/samplers.py",
        "sweep/search/searcher.py",
    }


def test_only_sweep_knows_both_leaves() -> None:
    both = users("trainables") & users("search_spaces")
    assert both
    assert all(file.startswith("sweep/") for file in both)


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print(sorted({{'torch', 'ray', 'optuna', 'pyarrow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_papers_twelve_names_are_the_registrys_first() -> None:
    assert len(PAPER_VARIANTS) == 12
    assert tuple(VARIANTS)[:12] == PAPER_VARIANTS

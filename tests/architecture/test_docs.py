"""What the documents say of the repository's files is so."""

import importlib.util
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import app as analysis
from analysis.__main__ import main
from analysis.reproduction import BEGIN, END
from sweep.cli.parse import parse
from sweep.study.catalog import STUDIES
from tests.reported import make_run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("analysis", "search_spaces", "sweep", "trainables")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def files(pattern: str) -> list[Path]:
    """Return the repository's files by a pattern, those that are not committed yet too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def test_there_are_documents_and_links_in_them() -> None:
    assert ROOT / "README.md" in files("*.md")
    assert LINK.findall('[a](b.md) ![c](d.png "e")') == ["b.md", "d.png"]


@pytest.mark.parametrize("document", files("*.md"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_resolve(document: Path) -> None:
    broken = []
    for target in LINK.findall(without_code(document.read_text())):
        path = target.partition("#")[0]
        if re.match(r"[a-z][a-z0-9+.-]*:", target) or not path:
            continue
        if not (document.parent / path).exists():
            broken.append(target)
    assert not broken


def anchors(document: Path) -> set[str]:
    """Return what a `#` after the document's name may name, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", without_blocks(document.read_text()), flags=re.MULTILINE):
        base = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()).replace(" ", "-")
        found.add(next(name for number in range(99) if (name := f"{base}-{number}" if number else base) not in found))
    return found


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", files("*.md"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_anchors_resolve(document: Path) -> None:
    broken = []
    for target in LINK.findall(without_code(document.read_text())):
        path, _, anchor = target.partition("#")
        if anchor and not re.match(r"[a-z][a-z0-9+.-]*:", target) and path.endswith((".md", "")):
            named = document.parent / path if path else document
            if named.suffix == ".md" and anchor not in anchors(named):
                broken.append(target)
    assert not broken


def code_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL)


BLOCKS = [
    pytest.param(block, id=f"{document.relative_to(ROOT).as_posix()}-{number}")
    for document in [*files("README.md"), *files("docs/*.md")]
    for number, block in enumerate(code_blocks(document))
]


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("block", BLOCKS)
def test_the_documents_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(str(tmp_path / "runs" / "first"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "the document", "exec"), {"__name__": "the_document"})  # noqa: S102 - this project's own text


def commands(document: Path) -> list[list[str]]:
    """Return the command lines of this project in a document's indented blocks, as words behind `python -m`."""
    text = re.sub(r"\\\n\s*", "", without_blocks(document.read_text()))
    lines = [line for line in text.splitlines() if line.startswith("    ") or line.startswith("  python")]
    # Another program may be given the command, between quotes or behind its own words.
    found = [re.search(r"python -m ((?:analysis|benchmarks|sweep)\b[^'\"|;&#]*)", line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize(
    "document", [*files("README.md"), *files("docs/*.md")], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_the_documents_command_lines_are_understood(document: Path) -> None:
    for module, *arguments in commands(document):
        assert importlib.util.find_spec(module), f"python -m {module}"
        if module == "sweep.run" and "[STUDY]" not in arguments:
            parsed = parse(arguments)
            assert parsed is not None
            study, options = parsed
            assert study is None or study in STUDIES or ".py" in study or options.plugins, arguments
        elif module == "analysis":
            analysis.parse_args(arguments, exit_on_error=False, print_error=False)


def test_there_are_command_lines_and_python_to_look_at() -> None:
    assert ["sweep.run", "cifar10", "--dry-run"] in commands(ROOT / "README.md")
    assert ["sweep.run", "my_study.py", "--dry-run"] in commands(ROOT / "docs" / "tutorial.md")
    assert len(BLOCKS) >= 5
    assert "why-early-stopping-is-off" in anchors(ROOT / "docs" / "explanation.md")


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")
    pytest.importorskip(
        "mkdocstrings_handlers.python", reason="mkdocstrings is not installed: pip install -e '.[docs]'"
    )
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "register_arrays" in (tmp_path / "site" / "reference" / "api" / "index.html").read_text()


def test_the_example_notebook_was_executed_whole_and_names_no_machine() -> None:
    file = ROOT / "docs" / "example.ipynb"
    assert file.stat().st_size < 300_000
    cells = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) == len(cells)
    assert all(output["output_type"] != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not re.search(r"/(?:home|root|tmp|Users)/", file.read_text())


def test_every_page_of_the_documentation_is_in_its_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in [*files("docs/how-to/*.md"), *files("docs/*.md")]]
    # A decision, or a page for those who work on the project, is reached from another page.
    missing = [page for page in pages if page not in menu and not page.startswith(("decisions/", "testing-"))]
    assert not missing


def test_the_readmes_tree_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text()
    packages = [file.parent.name for package in PACKAGES for file in files(f"{package}/*/__init__.py")]
    assert len(packages) > 10
    assert not [name for name in packages if f"{name}/" not in readme]


def test_the_list_of_modules_is_that_of_their_docstrings() -> None:
    list_modules = runpy.run_path(str(ROOT / "scripts" / "list-modules"))
    assert list_modules["PAGE"].read_text(encoding="utf-8") == list_modules["page"](), "run scripts/list-modules"


def test_the_list_of_hyperparameters_is_that_of_their_classes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "list-hyperparameters"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run scripts/list-hyperparameters"


STATES = ("README.md", "docs/reproduction/README.md")


@pytest.mark.parametrize("document", STATES)
def test_the_state_of_the_reproduction_is_what_the_committed_runs_give(
    document: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["reproduction", "docs/reproduction/runs"]) == 0
    table = capsys.readouterr().out
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text.count(BEGIN) == 1
    stands = text.partition(BEGIN)[2].partition(END)[0]
    assert stands.strip() == table.strip(), f"python -m analysis reproduction docs/reproduction/runs --write {document}"


def test_the_readme_begins_with_the_state_of_the_reproduction() -> None:
    assert BEGIN in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]

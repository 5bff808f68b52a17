"""What the documents say of the repository's files is so."""

import re
import subprocess
from pathlib import Path

import pytest

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


def test_the_readmes_tree_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [file for package in PACKAGES for file in files(f"{package}/*.py") if file.name != "__init__.py"]
    assert len(names) > 20
    missing = [
        file.relative_to(ROOT).as_posix() for file in names if not re.search(rf"\b{re.escape(file.name)}\b", readme)
    ]
    assert not missing

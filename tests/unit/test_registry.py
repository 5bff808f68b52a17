import re
import sys
from pathlib import Path

import pytest

from trainables.common.registry import Registry, load_plugin_texts, load_plugins, read_plugins


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.register("red")(1)
    registry.register("dark-blue-2")(2)
    return registry


def test_a_registry_keeps_names_in_order(colours: Registry[int]) -> None:
    assert list(colours) == ["red", "dark-blue-2"]
    assert len(colours) == 2
    assert (colours["red"], colours["dark-blue-2"]) == (1, 2)
    assert "red" in colours
    assert "green" not in colours


def test_registering_returns_the_thing(colours: Registry[int]) -> None:
    assert colours.register("green")(3) == 3
    assert colours["green"] == 3


def test_an_unknown_name_lists_the_known_ones(colours: Registry[int]) -> None:
    with pytest.raises(ValueError, match=r"^colour must be one of red, dark-blue-2, got 'pink'\.$"):
        colours["pink"]


def test_a_name_taken_is_refused_and_keeps_its_thing(colours: Registry[int]) -> None:
    with pytest.raises(ValueError, match=r"name of a colour must be free, got 'red', which is registered already\.$"):
        colours.register("red")(5)
    assert colours["red"] == 1


@pytest.mark.parametrize("name", ["", "Red", "dark_blue", "-red", "red-", "a--b", "a/b", "red\n", "größe"])
def test_a_badly_formed_name_is_refused(colours: Registry[int], name: str) -> None:
    message = f"name of a colour must be lower-case letters, digits and single hyphens, got {name!r}."
    with pytest.raises(ValueError, match=re.escape(message)):
        colours.register(name)


def test_a_plugin_runs_once_in_a_process(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    plugin = tmp_path / "mine.py"
    plugin.write_text(f"from pathlib import Path\nwith Path({str(ran)!r}).open('a') as f: f.write('x')\n")
    load_plugins([str(plugin)])
    load_plugins([str(plugin), str(tmp_path / "." / "mine.py")])
    assert ran.read_text() == "x"


def test_two_plugins_of_one_file_name_both_run(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(
            f"from pathlib import Path\nPath({str(tmp_path / f'ran-{folder}')!r}).touch()\n"
        )
    load_plugins([str(tmp_path / "a" / "mine.py"), str(tmp_path / "b" / "mine.py")])
    assert (tmp_path / "ran-a").exists()
    assert (tmp_path / "ran-b").exists()


def test_a_plugin_that_fails_says_so_each_time_and_leaves_nothing(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise ArithmeticError('mine')\n")
    for _ in range(2):
        message = (
            f"plugins must be Python files that run, got {str(plugin)!r}, which ended in ArithmeticError: mine, "
            "at broken.py:1."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_plugins([str(plugin)])
    assert not [name for name in sys.modules if name.endswith(str(plugin))]


@pytest.mark.parametrize("name", ["missing.py", "notes.txt", "folder.py"])
def test_a_plugin_is_an_existing_python_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "folder.py").mkdir()
    path = str(tmp_path / name)
    with pytest.raises(ValueError, match=f"^plugins must be existing Python files, got {re.escape(repr(path))}"):
        load_plugins([path])


def test_a_plugin_runs_by_its_text_where_its_file_is_not(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    plugin = tmp_path / "mine.py"
    plugin.write_text(f"from pathlib import Path\nwith Path({str(ran)!r}).open('a') as f: f.write('x')\n")
    texts = read_plugins([str(plugin)])
    plugin.unlink()
    load_plugin_texts(texts)
    # Once, and the trial's own configuration names it again.
    load_plugin_texts(texts)
    load_plugins([str(plugin)])
    assert ran.read_text() == "x"
    broken = {str(tmp_path / "broken.py"): b"raise ArithmeticError('mine')\n"}
    with pytest.raises(
        ValueError, match=r"plugins must be Python files that run, got '.*/broken\.py', which ended in "
    ):
        load_plugin_texts(broken)

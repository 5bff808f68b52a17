"""A cluster's description as read from its file: nested mappings and lists, with the paths of what is in them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import yaml

from trainables.common.validation import one_line

MARK = "FILL_IN"
"""Stands in the shipped files where only the user knows the value."""


@final
class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a key that comes twice is an error: the first of both would have no effect."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._looked_at: set[int] = set()

    def flatten_mapping(self, node: Any) -> None:
        """Merge what `<<` names into a mapping, after a look at its own keys."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if id(node) not in self._looked_at:
            self._looked_at.add(id(node))
            for number, key in enumerate(keys):
                if key.value in [earlier.value for earlier in keys[:number]]:
                    where = f"line {key.start_mark.line + 1}"
                    raise yaml.YAMLError(f"{where} has the key {key.value!r}, which the same mapping has already")
        super().flatten_mapping(node)


def read_description(file: Path) -> dict[str, Any]:
    """Return a file's contents.

    Raises:
        ValueError: the file cannot be read, is not YAML or holds no mapping.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise ValueError(f"FILE must be a file that can be read, got {str(file)!r} ({error.strerror}).") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = one_line(error)
        raise ValueError(f"FILE must be YAML, got {str(file)!r} ({reason}).") from error
    except RecursionError:
        raise ValueError(f"FILE must be YAML that is not nested without end, got {str(file)!r}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"FILE must hold a mapping of keys to values, got {type(content).__name__} in {str(file)!r}.")
    strange = next(_keys_that_are_no_words(content), None)
    if strange is not None:
        raise ValueError(f"FILE must have words for keys, got {strange!r} in {str(file)!r}; put it in quotes.")
    return content


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each scalar."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from leaves(value, f"{path}[{number}]")
    else:
        yield path, node


def _keys_that_are_no_words(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (key for key in node if not isinstance(key, str))
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _keys_that_are_no_words(part)


def within(node: Any, *keys: str) -> Any:
    """Return what lies under the keys, None where there is nothing."""
    for key in keys:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def is_unfilled(value: object) -> bool:
    """Return whether the user has still to give this value, which then needs no other complaint."""
    return isinstance(value, str) and MARK in value


def unfilled(description: dict[str, Any]) -> list[str]:
    """Return a sentence for each value that is still to be filled in: once, where an alias repeats it."""
    seen: set[int] = set()
    found = []
    for path, value in leaves(description):
        if is_unfilled(value) and id(value) not in seen:
            seen.add(id(value))
            found.append(f"{path} must be filled in, got {value!r}; put your own value in the place of {MARK}.")
    return found


def shown(value: object) -> str:
    """Return a value as messages show it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""The user's Python files that a study needs, told apart by their contents."""

from typing import final

from trainables.common.validation import configuration


@final
@configuration
class Plugin:
    """A Python file of the user's."""

    file: str
    """Its name."""
    sha256: str

"""A listener made of functions, for tests."""

from typing import Any

from sweep.execution.listener import Listener


def listening(**functions: Any) -> Listener:
    """Return a listener whose methods of these names are these functions."""
    listener = Listener()
    for name, function in functions.items():
        assert hasattr(Listener, name), name
        setattr(listener, name, function)
    return listener

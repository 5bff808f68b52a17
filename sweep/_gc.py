"""Python's search for garbage, kept away from what stays for good.

Torch and Ray make half a million objects as they are loaded, hardly one of them garbage. Looking through them again and
again took a quarter of the time that loading took; looking through them a last time, as Python ends, two seconds.
"""

import atexit
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[Callable[[], None]]:
    """Look for no garbage until the yielded function is called; from then on never among what was there by then.

    When the context ends, all is as it was before.
    """
    was_on = gc.isenabled()
    gc.disable()

    def settle() -> None:
        # In this order: to look for garbage anew would begin with all that was made meanwhile.
        gc.freeze()
        if was_on:
            gc.enable()

    try:
        yield settle
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def leave_to_the_system() -> None:
    """Let Python end without a last search for garbage: for a process of our own, before all else that it loads."""
    atexit.register(gc.freeze)

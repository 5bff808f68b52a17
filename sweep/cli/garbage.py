"""Keep the garbage collector off while much is made that stays, and at exit.

Torch and Ray make half a million objects as they are loaded, hardly one of them garbage. Looking through them again and
again took a quarter of the time that loading took; looking through them a last time, as Python ends, two seconds. The
million objects of a large chart took a quarter of a report's time.
"""

import atexit
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def collector_off() -> Iterator[Callable[[], None]]:
    """Disable garbage collection until the yielded function is called, or until the context ends.

    The function exempts all objects made by then from collection, also until the context ends.
    """
    was_on, is_settled = gc.isenabled(), False
    gc.disable()

    def settle() -> None:
        nonlocal is_settled
        is_settled = True
        # In this order: to look for garbage anew would begin with all that was made meanwhile.
        gc.freeze()
        if was_on:
            gc.enable()

    try:
        yield settle
    finally:
        if is_settled:
            gc.unfreeze()
        if was_on:
            gc.enable()


def skip_last_collection() -> None:
    """Let Python end without a last search for garbage: for a process of our own, before all else that it loads."""
    atexit.register(gc.freeze)

"""What the fuzz tests share: damaged bytes and values, how many examples there are, and what may come of them.

FUZZ_EXAMPLES=100000 makes the long run of it; see docs/results.md.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = "FUZZ_EXAMPLES"


def examples(usual: int, share: float = 1.0) -> settings:
    """Return settings for `usual` examples, or for a share of the variable FUZZ_EXAMPLES where that is set."""
    count = int(int(os.environ[LONG]) * share) if LONG in os.environ else usual
    return settings(
        max_examples=max(1, count),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


def refused(call: Callable[[], Any]) -> str | None:
    """Return the sentence with which `call` refuses its input, None where it takes it.

    Raises:
        AssertionError: it is no sentence on one line. Any other exception than ValueError passes through.
    """
    try:
        call()
    except ValueError as error:
        caught = error
    else:
        return None
    # A subclass is one that nobody has turned into a sentence: UnicodeDecodeError, json.JSONDecodeError.
    assert type(caught) is ValueError, repr(caught)
    text = str(caught)
    assert len(text.split()) >= 3, text
    assert "\n" not in text, text
    assert len(text) < 3000, text
    assert text.endswith((".", "?")), text
    return text


def seeds() -> st.SearchStrategy[int]:
    """Return seeds of damages: small ones are simple."""
    return st.integers(0, 2**40)


def damaged(whole: bytes, seed: int) -> bytes:
    """Return a file with one to four faults: bits flipped, cut, bytes replaced, moved, doubled, dropped or zeroed."""
    draws = random.Random(seed)
    data = bytearray(whole)
    for _ in range(draws.choice((1, 1, 1, 2, 4))):
        size = len(data)
        if not size:
            break
        # Ends describe the rest in most formats.
        place = min(
            size - 1, draws.choice((draws.randrange(size), draws.randrange(size), int(draws.expovariate(0.05))))
        )
        if draws.random() < 0.2:
            place = size - 1 - place
        length = min(size - place, 1 + int(draws.expovariate(0.1)))
        fault = draws.randrange(9)
        if fault <= 2:
            data[place] ^= 1 << draws.randrange(8)
        elif fault == 3:
            del data[place:]
        elif fault == 4:
            data[place : place + length] = draws.randbytes(length)
        elif fault == 5:
            other = draws.randrange(size)
            data[place : place + length] = data[other : other + length]
        elif fault == 6:
            data[place:place] = data[place : place + length]
        elif fault == 7:
            del data[place : place + length]
        else:
            data[place : place + length] = bytes([draws.choice((0, 0x7F, 0x80, 0xFF))]) * length
    return bytes(data)


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**6 + 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.5, 1.5, 1e308, 1e-320),
    *(float("inf"), float("-inf"), float("nan"), "", " ", "x", "none", "auto", "1", "model-c", "\n", "\x00", "\ud800"),
    *("../../x", "/", "a/b", "é", "x" * 5000, [], {}, [[]], [None], [0], ["x"], {"x": 1}, {"kind": "choice"}),
)
"""Values that stand where others should."""


def altered(value: Any, draws: random.Random) -> Any:
    """Return a nested value in which one thing, somewhere, is another, is gone, or has another name."""
    if isinstance(value, dict) and value and draws.random() < 0.85:
        key = draws.choice(sorted(value, key=str))
        fault = draws.random()
        rest = {name: item for name, item in value.items() if name != key}
        if fault < 0.1:
            return rest
        if fault < 0.15:
            return rest | {draws.choice(("x", "", str(key).upper())): value[key]}
        return {**value, key: altered(value[key], draws)}
    if isinstance(value, (list, tuple)) and value and draws.random() < 0.7:
        items, place, fault = list(value), draws.randrange(len(value)), draws.random()
        if fault < 0.15:
            del items[place]
        elif fault < 0.3:
            items.insert(place, items[place])
        else:
            items[place] = altered(items[place], draws)
        return items
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**70 and draws.random() < 0.4:
        return draws.choice((-value, value * 10, value / 3, value + 1, value * 1e10, str(value), draws.gauss(0, 1)))
    return draws.choice(ODD)


@contextmanager
def counted(what: str) -> Iterator[Callable[[], None]]:
    """Say at the end how many inputs there were and how long they took: what docs/results.md gives."""
    count, started = 0, time.monotonic()

    def another() -> None:
        nonlocal count
        count += 1

    yield another
    print(f"\nfuzzed {what}: {count} inputs in {time.monotonic() - started:.0f} s")

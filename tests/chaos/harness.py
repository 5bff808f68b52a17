"""Runs a study whose driver is killed, goes on with it, and compares its record with an undisturbed one."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from sweep.record.store import Store, run_location
from tests.e2e.conftest import environment, without_times

KILLER = Path(__file__).parent / "killer"
KILLED = -9


@final
@dataclass(kw_only=True)
class Tally:
    """What faults did to a record."""

    faults: int = 0
    lost: int = 0
    """Rows of the undisturbed record that are not in this one, or are there with other values."""
    doubled: int = 0
    """Rows that are there more than once."""
    repeated: int = 0
    """Epochs that were trained more often than once."""

    def add(self, other: "Tally") -> None:
        self.faults += other.faults
        self.lost += other.lost
        self.doubled += other.doubled
        self.repeated += other.repeated


@final
@dataclass(frozen=True, kw_only=True)
class Bench:
    """One study, run once undisturbed in `folder`/whole."""

    folder: Path
    study: tuple[str, ...]
    output: str = ""
    """Where all runs but `whole` lie, if not in `folder`."""
    log: dict[str, list[str]] = field(default_factory=dict)

    def start(self, name: str, *options: str, fault: str = "", **variables: str) -> "subprocess.Popen[str]":
        """Begin or, with --resume, go on with the run `name`."""
        place = self.folder / name
        variables = (
            environment()
            | variables
            | {
                "PYTHONPATH": os.pathsep.join([str(KILLER), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
                "CHAOS_FOLDER": str(place),
                "CHAOS_LOG": str(self.folder / f"{name}.log"),
                "CHAOS_FAULT": fault,
            }
        )
        study = () if "--resume" in options else self.study
        return subprocess.Popen(
            [sys.executable, "-m", "sweep.run", *study, "--output", self._output(name), "--name", name, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            start_new_session=True,
        )

    def finish(self, name: str, *options: str, fault: str = "") -> int:
        """Run to the end, or to the kill, and return the exit status."""
        process = self.start(name, *options, fault=fault)
        said, _ = process.communicate()
        self.log.setdefault(name, []).append(said)
        return process.returncode

    def again(self, name: str) -> tuple[str, ...]:
        """Return what goes on with a run, or begins it anew where it was killed before its study was written."""
        return ("--resume",) if self.store(name).exists() else ()

    def store(self, name: str) -> Store:
        """Return a run's record."""
        return Store(run_location(self._output(name), name))

    def _output(self, name: str) -> str:
        return self.output if self.output and name != "whole" else str(self.folder)

    def go_on(self, name: str) -> None:
        """Go on to the end; a run that was killed before its study was written begins anew."""
        options = self.again(name)
        deadline = time.monotonic() + 60
        while self.finish(name, *options) != 0:
            # The killed driver's lock is the kernel's to free.
            assert "is at work" in self.log[name][-1], self.log[name][-1]
            assert time.monotonic() < deadline
            time.sleep(1)

    def writes(self, name: str, *, by_driver: bool = True) -> list[str]:
        """Return the driver's writes in a run, or all others', in order, by the files' names in the run's folder."""
        return [path for by, path in self._log(name) if by == by_driver]

    def compare(self, name: str, faults: int) -> Tally:
        """Return what differs from the undisturbed run, times left out."""
        ours, whole = (without_times(self.store(each)) for each in (name, "whole"))
        tally = Tally(faults=faults)
        for mine, theirs in zip(ours, whole, strict=True):
            tally.lost += sum(row not in mine for row in theirs)
            tally.doubled += len(mine) - len(theirs) if len(mine) > len(theirs) else 0
        trained = Counter(path for _, path in self._log(name) if path.endswith("last.pt"))
        expected = Counter(path for _, path in self._log("whole") if path.endswith("last.pt"))
        tally.repeated = sum((trained - expected).values())
        return tally

    def _log(self, name: str) -> Iterable[tuple[bool, str]]:
        log = self.folder / f"{name}.log"
        # What is written to an object store is not seen.
        for line in log.read_text().splitlines() if log.exists() else ():
            by_driver, path = line.split(" ", 1)
            yield by_driver == "1", Path(path).relative_to(self.folder / name).as_posix()

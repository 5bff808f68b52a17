"""A cloud whose instances are machines.py's: an API for provider.py, and what clouds do unasked to spot instances."""

import json
import socketserver
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cluster.machines import Machines


class Cloud:
    """Instances by name, an API on a socket that every machine sees."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.started: list[str] = []
        """The machine of each instance that was ever started, in their order."""
        self._instances: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        cloud = self

        class Api(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    asked = json.loads(self.rfile.readline())
                    with cloud._lock:
                        answer = {"answer": getattr(cloud, f"_{asked.pop('question')}")(**asked)}
                except Exception as error:  # whatever it is, the caller in a machine shall hear of it
                    answer = {"error": f"{type(error).__name__}: {error}"}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        # One question after the other in one thread that stays: a machine ends with the thread that started it.
        path = machines.cloud / "socket"
        self._server = socketserver.UnixStreamServer(str(path), Api)
        path.chmod(0o666)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def running(self) -> set[str]:
        """Return the machines of the instances that run."""
        with self._lock:
            return {instance["machine"] for instance in self._instances.values()}

    def give_notice(self, machine: str, seconds: float) -> None:
        """Say through the machine's metadata service that it will be taken back so soon."""
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        (self.machines.cloud / f"notice-{machine}").write_text(
            json.dumps({"action": "terminate", "time": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})
        )

    def take(self, machine: str) -> None:
        """Take a spot instance back: its machine loses power, and there is no such instance any more."""
        with self._lock:
            (name,) = (name for name, each in self._instances.items() if each["machine"] == machine)
            self._terminate([name])

    def fail(self, machine: str) -> None:
        """Let an instance's machine lose power; the cloud goes on listing the instance, and nobody is told."""
        with self._lock:
            self.machines.cut_power(machine)

    def close(self) -> None:
        """Close the API; the machines that it started end too."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _list(self) -> dict[str, dict[str, Any]]:
        return self._instances

    def _tag(self, name: str, tags: dict[str, str]) -> None:
        self._instances[name]["tags"].update(tags)

    def _create(self, pool: list[str], tags: dict[str, str], count: int) -> dict[str, dict[str, Any]]:
        made = {}
        for _ in range(count):
            taken = {instance["machine"] for instance in self._instances.values()}
            free = [machine for machine in pool if machine not in taken]
            if not free:
                raise RuntimeError(f"InsufficientInstanceCapacity: none of {pool} is free")
            (self.machines.cloud / f"notice-{free[0]}").unlink(missing_ok=True)
            self.machines.start(free[0])
            name = f"i-{len(self.started):04d}"
            self.started.append(free[0])
            address = self.machines.addresses[free[0]]
            made[name] = self._instances[name] = {"machine": free[0], "address": address, "tags": dict(tags)}
        return made

    def _terminate(self, names: list[str]) -> None:
        for name in names:
            if name in self._instances:
                self.machines.cut_power(self._instances.pop(name)["machine"])

"""A stand-in for NVIDIA's `nvidia-cuda-mps-control`, which is there only with a driver."""

import os
import sys
from pathlib import Path
from typing import Literal

Behaviour = Literal["works", "ends at once", "hangs", "does not quit"]

_SCRIPT = '''#!{python} -IS
"""As the real one: -f serves a socket in the pipe directory, else commands come from the standard input."""
import json, os, signal, socket, subprocess, sys, time
from pathlib import Path

BEHAVIOUR = {behaviour!r}
pipe = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))


def serve():
    if BEHAVIOUR == "ends at once":
        print("Failed to start\\nthe GPUs are busy", flush=True)
        sys.exit(3)
    if BEHAVIOUR == "hangs":
        time.sleep(1000)
    Path(os.environ["CUDA_MPS_LOG_DIRECTORY"], "environment.json").write_text(json.dumps(dict(os.environ)))
    # The real one starts it with the first client.
    server = subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(1000)", "stand-in server"])
    (pipe / "nvidia-cuda-mps-control.pid").write_text(f"{{os.getpid()}} {{server.pid}}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(pipe / "control"))
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                command = connection.recv(100).decode().strip()
                if command == "quit":
                    if BEHAVIOUR == "does not quit":
                        time.sleep(1000)
                    server.kill()
                    server.wait()
                    (pipe / "nvidia-cuda-mps-control.pid").unlink()
                    return
                connection.sendall(b"100.0\\n" if command == "get_default_active_thread_percentage" else b"")


def ask():
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(pipe / "control"))
            connection.sendall(sys.stdin.read().encode())
            print(connection.makefile().read(), end="")
    except OSError:
        print("Cannot find MPS control daemon process")
        sys.exit(1)


serve() if "-f" in sys.argv else ask()
'''


def install(folder: Path, behaviour: Behaviour = "works") -> str:
    """Put the program into a folder, and return a PATH that begins with it."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-cuda-mps-control"
    program.write_text(_SCRIPT.format(python=sys.executable, behaviour=behaviour))
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def processes(pipe: Path) -> list[int]:
    """Return the numbers of a daemon's process and of its server's, while it runs."""
    return [int(number) for number in (pipe / "nvidia-cuda-mps-control.pid").read_text().split()]


def is_alive(number: int) -> bool:
    """Return whether a process runs: one that has ended may stay in the table while nobody asks for its status."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

"""Machines for a real `ray up` that are namespaces on this host: no cloud, no containers, no network beyond it.

Each has processes, mounts, network, host name and shared memory of its own, hence its own `ray stop`, which ends every
Ray process that it sees. They hang on one switch, all of them at the end of a chain of parent processes: when this
process ends, however it does, so do they, and with a namespace's last process goes the namespace.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
USER, UID = "ubuntu", 2000
NETWORK = "10.77.0"
TOOLS = ("ip", "mount", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "sshd", "unshare")
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

SSHD = """\
HostKey /run/host_key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin no
AuthorizedKeysFile .ssh/authorized_keys
PrintMotd no
MaxStartups 50:30:100
MaxSessions 100
"""


def why_not() -> str:
    """Return why there can be no machines here, in words, or an empty string."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines of namespaces need Linux and root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCHED) is None]
    if missing:
        return f"{', '.join(missing)} must be installed (Debian: openssh-server rsync iproute2 util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    return f"this host allows no namespaces ({tried.stderr.strip()})" if tried.returncode else ""


class Machines:
    """A switch and the machines on it, by name; `laptop` has the key that opens the others."""

    def __init__(self, names: tuple[str, ...], seen: tuple[Path, ...], image: Callable[[Path], None]) -> None:
        """Plug in the switch; no machine is on yet.

        Args:
            names: of all machines that there can be.
            seen: folders that each machine sees where they are, read-only.
            image: fills the home of each new machine; ~/.bashrc, which its logins run too, is there already.
        """
        self.addresses = {name: f"{NETWORK}.{10 + number}" for number, name in enumerate(names)}
        # Sockets have short names, hence not in a test's own folder.
        self.state = Path(tempfile.mkdtemp(prefix="machines-"))
        self.shared, self.cloud = self.state / "common" / "shared", self.state / "common" / "cloud"
        for folder, mode in ((self.shared, 0o1777), (self.cloud, 0o755)):
            folder.mkdir(parents=True)
            folder.chmod(mode)
        self._seen = tuple(dict.fromkeys((*seen, HERE)))
        self._image = image
        self._on: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._key = self.state / "key"
        for key in (self._key, self.state / "host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(key))
        self._switch = subprocess.Popen([*DIE_WITH_PARENT, "unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").readlink()
        _wait(lambda: Path(f"/proc/{self._switch.pid}/ns/net").readlink() != own, "the switch")
        self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._on_switch("ip", "link", "set", "bridge", "up")

    def home(self, name: str) -> Path:
        """Return the host's path of a machine's home."""
        return self.state / name / "home"

    def is_on(self, name: str) -> bool:
        """Return whether the machine has power."""
        return name in self._on

    def start(self, name: str) -> None:
        """Power a machine on, its disk empty but for what an image brings."""
        assert name not in self._on, name
        disk = self._new_disk(name)
        console = (disk / "console").open("wb")
        script = (str(HERE / "machine.sh"), name, str(disk), str(self.shared.parent))
        metadata = (sys.executable, str(HERE / "metadata.py"))
        process = subprocess.Popen(
            [
                *DIE_WITH_PARENT,
                *("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"),
                *("--propagation", "private", "bash", *script, *metadata, *map(str, self._seen)),
            ],
            env={"PATH": SEARCHED, "LANG": "C.UTF-8", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        console.close()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        _wait(lambda: children.read_text().split(), f"the first process of {name}")
        first = int(children.read_text().split()[0])
        self._on[name] = process, first
        try:
            self._plug_in(name, first)
            _wait(lambda: "started" in (disk / "console").read_text().split(), f"{name}: {disk / 'console'}")
        except BaseException:
            self.cut_power(name)
            raise

    def cut_power(self, name: str) -> None:
        """End a machine as a power failure does: no process says goodbye, no connection is closed."""
        if name not in self._on:
            return
        process, first = self._on.pop(name)
        # First the cable, so that nothing is heard of the end. Either is gone already where the machine died by itself.
        with suppress(AssertionError):
            self._on_switch("ip", "link", "delete", f"to-{name}")
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        process.wait()

    def command(self, name: str, script: str) -> list[str]:
        """Return a command that runs a script in a machine, as a user who is logged in there."""
        _, first = self._on[name]
        enter = ("nsenter", "--target", str(first), "--net", "--mount", "--uts", "--ipc", "--pid", "--")
        clean = ("env", "-i", f"HOME=/home/{USER}", f"USER={USER}", f"LOGNAME={USER}", "SHELL=/bin/bash", "TERM=dumb")
        user = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--pdeathsig", "KILL")
        path = ("LANG=C.UTF-8", f"PATH={SEARCHED}")
        return [*DIE_WITH_PARENT, *enter, *clean, *path, *user, "bash", "-c", f"cd; . ~/.bashrc; {script}"]

    def run(self, name: str, script: str, timeout_s: float = 120.0) -> str:
        """Run a script in a machine as `command` says, and return what it printed; it must succeed."""
        done = subprocess.run(
            self.command(name, script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{name}: {script} gave {done.returncode}:\n{done.stdout}"
        return done.stdout

    def close(self) -> None:
        """End all machines and remove their disks."""
        for name in list(self._on):
            self.cut_power(name)
        self._switch.kill()
        self._switch.wait()
        shutil.rmtree(self.state)

    def _plug_in(self, name: str, first: int) -> None:
        # Both ends are born inside namespaces: the host's own interfaces are not touched.
        cable = ("ip", "link", "add", "eth0", "netns", str(first), "type", "veth", "peer", "name", f"to-{name}")
        run(*cable, "netns", str(self._switch.pid))
        self._on_switch("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        inside = ("nsenter", "--target", str(first), "--net", "ip")
        run(*inside, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")

    def _new_disk(self, name: str) -> Path:
        disk = self.state / name
        shutil.rmtree(disk, ignore_errors=True)
        home, etc = disk / "home", disk / "etc"
        for folder in (home / ".ssh", etc, disk / "tmp"):
            folder.mkdir(parents=True)
        (disk / "tmp").chmod(0o1777)
        shutil.copy(self._key.with_suffix(".pub"), home / ".ssh" / "authorized_keys")
        if name == "laptop":
            shutil.copy(self._key, home / ".ssh" / "key")
        (home / ".bashrc").touch()
        (home / ".profile").write_text(". ~/.bashrc\n")
        hosts = [f"{address} {each}" for each, address in self.addresses.items()]
        (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        user = f"{USER}:*:{UID}:{UID}::/home/{USER}:/bin/bash\n"
        (etc / "passwd").write_text(Path("/etc/passwd").read_text() + user)
        (etc / "group").write_text(Path("/etc/group").read_text() + f"{USER}:x:{UID}:\n")
        (etc / "sshd_config").write_text(SSHD)
        shutil.copy(self.state / "host_key", etc / "host_key")
        self._image(home)
        give(home)
        return disk

    def _on_switch(self, *command: str) -> None:
        run("nsenter", "--target", str(self._switch.pid), "--net", *command)


def give(folder: Path) -> None:
    """Make the machines' user the owner of a folder and all in it."""
    run("chown", "-R", f"{UID}:{UID}", str(folder))


def run(*command: str) -> None:
    """Run a command of the host's; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": SEARCHED})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _wait(condition: Callable[[], object], what: str) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")

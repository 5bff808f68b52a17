"""`python -m sweep.spot --provider aws`: beside Ray on a spot node, turns its cloud's notice into `ray drain-node`.

Ray itself asks no cloud whether a node is about to be preempted. A drained node gets no new trials; those on it keep
their last epoch and resume elsewhere. A node that is not drained loses what its trials did since then, nothing else, so
this watcher keeps asking however long the metadata service fails.

Exit status: 0 once the node has been drained, 1 when that could not be done in time, 2 for bad input.
"""

import http.client
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Literal, NamedTuple, final

import tenacity

from sweep.cli.app import new_app, run_app

DRAINED, NOT_DRAINED = 0, 1

HOST = "169.254.169.254"
"""Where a machine's metadata service answers, in both clouds; by address, since a name could be spoofed."""

TIMEOUT_S = 5.0
"""How long a metadata service, which is a machine's neighbour, may take to answer."""

DRAIN_TIMEOUT_S = 30.0
"""How long one attempt to reach the cluster's head may take."""

LARGEST_ANSWER = 65_536
"""Bytes of an answer that are read; a notice has about a hundred."""


class UnclearAnswerError(Exception):
    """The metadata service's answer does not tell whether there is a notice."""


class Notice(NamedTuple):
    """What a cloud announced, for people, and when this node ends, in seconds since 1970."""

    said: str
    ends_at: float


@final
class Aws:
    """EC2: a document that is not found until about two minutes before the end, read with a token (IMDSv2).

    The rebalance recommendation, which comes earlier, is not a notice: most such nodes live on.
    """

    pause_s = 5.0
    """Between two questions."""
    longest_pause_s = 15.0
    """Between two questions, or attempts to drain, after failures: a part of the time that a notice leaves."""

    def __init__(self, host: str = HOST) -> None:
        self._host = host
        self._token = ""

    def look(self) -> Notice | None:
        """Return the notice, or None where there is none yet.

        Raises:
            UnclearAnswerError: the answer does not tell.
        """
        status, body = self._ask()
        if status == HTTPStatus.UNAUTHORIZED:
            # The token has expired, or the machine was stopped and started again.
            self._token = ""
            status, body = self._ask()
        if status == HTTPStatus.NOT_FOUND:
            return None
        _check(status, "the notice")
        try:
            notice = json.loads(body)
            ends = datetime.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            if not re.fullmatch(r"[a-z-]{1,32}", notice["action"]):  # it becomes the drain's reason
                raise ValueError("not an action")
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise UnclearAnswerError(f"no notice can be read from {body[:100]!r}") from error
        return Notice(f"EC2 will {notice['action']} this instance", ends.timestamp())

    def _ask(self) -> tuple[int, str]:
        if not self._token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            status, token = fetch(self._host, "PUT", "/latest/api/token", lifetime)
            _check(status, "a token")
            if not re.fullmatch(r"[\x21-\x7e]{1,1024}", token):
                raise UnclearAnswerError("what came as a token is none")
            self._token = token
        header = {"X-aws-ec2-metadata-token": self._token}
        return fetch(self._host, "GET", "/latest/meta-data/spot/instance-action", header)


@final
class Gcp:
    """Compute Engine: a value that turns to TRUE some 30 s before the end; a question waits there for its change."""

    pause_s = 1.0  # a question that waits takes its time there
    longest_pause_s = 4.0

    def __init__(self, host: str = HOST, clock: Callable[[], float] = time.time) -> None:
        self._host = host
        self._clock = clock
        self._wait_s = 0  # the first question does not wait: the change may be over

    def look(self) -> Notice | None:
        """Return the notice as Aws.look does."""
        wait_s, self._wait_s = self._wait_s, 0
        path = "/computeMetadata/v1/instance/preempted"
        if wait_s:
            path += f"?wait_for_change=true&timeout_sec={wait_s}"
        status, body = fetch(self._host, "GET", path, {"Metadata-Flavor": "Google"}, wait_s)
        _check(status, "whether it is preempted")
        if body.strip().upper() not in ("TRUE", "FALSE"):
            raise UnclearAnswerError(f"no notice can be read from {body[:100]!r}")
        self._wait_s = 60
        if body.strip().upper() == "FALSE":
            return None
        return Notice("Compute Engine preempts this instance", self._clock() + 30.0)


def fetch(host: str, method: str, path: str, headers: dict[str, str], wait_s: float = 0) -> tuple[int, str]:
    """Return status and text of the answer of `host` (HOST or HOST:PORT), past proxies and without redirections.

    Raises:
        UnclearAnswerError: nobody answers within TIMEOUT_S after `wait_s`, or it is not the cloud that was asked.
    """
    try:
        with closing(http.client.HTTPConnection(host, timeout=TIMEOUT_S + wait_s)) as connection:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER).decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnclearAnswerError(f"no answer ({type(error).__name__}: {error})") from error
    # Google's service returns this header, by which it is told from others.
    if response.headers.get("Metadata-Flavor") != headers.get("Metadata-Flavor"):
        raise UnclearAnswerError(f"status {response.status} from another service")
    return response.status, body


def watch(
    cloud: Aws | Gcp,
    drain: Callable[[Notice], bool],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], object] = print,
) -> bool:
    """Wait for the notice and drain the node once; return whether that was done before the end.

    Args:
        cloud: asked again and again.
        drain: tries it once, and returns whether the cluster has accepted it.
        clock: seconds since 1970.
        sleep: waits for a number of seconds.
        say: takes a line for people.
    """
    waits = tenacity.wait_exponential(max=cloud.longest_pause_s)  # 1 s, 2 s, 4 s, ...

    def tell(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            error = state.outcome.exception()
            say(f"the metadata service must say whether there is a notice, got {error}; asking on")

    asking = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnclearAnswerError), wait=waits, sleep=sleep, before_sleep=tell
    )
    while True:
        notice = asking(cloud.look)
        if asking.statistics["attempt_number"] > 1:
            say("the metadata service answers again")
        if notice is not None:
            break
        sleep(cloud.pause_s)
    say(f"notice: {notice.said}, in {notice.ends_at - clock():.0f} s")
    draining = tenacity.Retrying(
        retry=tenacity.retry_if_not_result(bool),
        wait=waits,
        stop=lambda state: clock() + state.upcoming_sleep >= notice.ends_at,
        sleep=sleep,
        retry_error_callback=lambda _: False,
    )
    drained = draining(drain, notice)
    say("drained: trials resume elsewhere" if drained else "not drained in time: trials resume from their last epoch")
    return drained


def drain_node(notice: Notice, *, address: str, node_id: str | None, clock: Callable[[], float] = time.time) -> bool:
    """Ask the cluster once to drain a node, the one that runs here if none is named; return whether it accepts."""
    # Ray finds the id of the node that runs here by joining its cluster, which this variable names.
    environment = os.environ | {"RAY_ADDRESS": address}
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", address),
        *(("--node-id", node_id) if node_id is not None else ()),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", notice.said),
        *("--deadline-remaining-seconds", str(max(1, math.floor(notice.ends_at - clock())))),
    ]
    try:
        done = subprocess.run(command, env=environment, timeout=DRAIN_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def run(cloud: Aws | Gcp, address: str, node_id: str | None = None) -> int:
    """Watch, drain the node with the id, by default the one that runs here, and return the exit status."""

    def say(line: str) -> None:
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {line}", flush=True)

    drained = watch(cloud, lambda notice: drain_node(notice, address=address, node_id=node_id), say=say)
    return DRAINED if drained else NOT_DRAINED


app = new_app(name="python -m sweep.spot", help=__doc__)


@app.default
def command(*, provider: Literal["aws", "gcp"], address: str | None = None) -> int:
    """Watch for the cloud's notice, and drain this node when it comes.

    Args:
        provider: whose notice to watch for.
        address: HOST:PORT of the cluster's head; default: RAY_ADDRESS, else that of the node that runs here.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if not re.fullmatch(r"auto|([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", address):
        raise ValueError(f"address must be HOST:PORT of a Ray cluster's head, or auto, got {address!r}.")
    return run(Aws() if provider == "aws" else Gcp(), address)


main = partial(run_app, app)
"""Run the command line, that of this process by default, and return its exit status."""


def _check(status: int, what: str) -> None:
    if status != HTTPStatus.OK:
        raise UnclearAnswerError(f"status {status} for {what}")

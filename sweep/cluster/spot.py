"""`python -m sweep.spot --provider aws`: beside Ray on a spot node, turns its cloud's notice into `ray drain-node`.

Ray itself asks no cloud whether a node is about to be taken away. A drained node gets no new trials; those on it keep
their last epoch and go on elsewhere. A node that is not told loses what its trials did since then, nothing else, so
this watcher never ends for want of an answer.

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
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol, final

import cyclopts

from trainables.common.validation import line

DRAINED, NOT_DRAINED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

TIMEOUT_S = 5.0
"""How long a metadata service, which is a machine's neighbour, may take to answer."""

DRAIN_TIMEOUT_S = 30.0
"""How long one attempt to reach the cluster's head may take."""

LARGEST_ANSWER = 65_536
"""Bytes of an answer that are looked at; a notice has about a hundred."""


class UnclearAnswerError(Exception):
    """The metadata service said nothing from which a notice could be told from none."""


@final
@dataclass(frozen=True, kw_only=True)
class Notice:
    """A cloud's word that it takes this node away."""

    said: str
    """For people: what the cloud said."""
    ends_at: float
    """When, in seconds since 1970."""


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a metadata service answered."""

    status: int
    body: str
    from_google: bool
    """Whether the header is there by which Google's service tells itself from others."""


Fetch = Callable[[str, str, dict[str, str], float], Answer]
"""Takes a method, a path, headers and a timeout in seconds; raises UnclearAnswerError where nobody answers."""


class Cloud(Protocol):
    """How one cloud gives notice."""

    pause_s: float
    """Between two questions."""
    longest_pause_s: float
    """Between two questions while there is no clear answer: a part of the time that a notice leaves."""

    def look(self) -> Notice | None:
        """Return the notice, or None where there is none yet.

        Raises:
            UnclearAnswerError: one could not tell.
        """


@final
class Aws:
    """EC2: a document that is not found until about two minutes before the end, read with a token (IMDSv2).

    The rebalance recommendation, which comes earlier, is not a notice: most such nodes live on.
    """

    pause_s = 5.0
    longest_pause_s = 15.0

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._token = ""

    def look(self) -> Notice | None:
        """Return the notice, or None where there is none yet."""
        answer = self._ask()
        if answer.status == HTTPStatus.UNAUTHORIZED:
            # The token has run out, or the machine was stopped and started again.
            self._token = ""
            answer = self._ask()
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        _check(answer, "the notice")
        try:
            notice = json.loads(answer.body)
            ends = datetime.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            action = notice["action"]
            if not re.fullmatch(r"[a-z-]{1,32}", action):  # it is said to the cluster
                raise ValueError("not an action")
            return Notice(said=f"EC2 will {action} this instance", ends_at=ends.timestamp())
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise UnclearAnswerError(f"no notice can be read from {answer.body[:100]!r}") from error

    def _ask(self) -> Answer:
        if not self._token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            given = self._fetch("PUT", "/latest/api/token", lifetime, TIMEOUT_S)
            _check(given, "a token")
            if not re.fullmatch(r"[\x21-\x7e]{1,1024}", given.body):
                raise UnclearAnswerError("what came as a token is none")
            self._token = given.body
        header = {"X-aws-ec2-metadata-token": self._token}
        return self._fetch("GET", "/latest/meta-data/spot/instance-action", header, TIMEOUT_S)


@final
class Gcp:
    """Compute Engine: a value that turns to TRUE some 30 s before the end; a question waits there for its change."""

    pause_s = 1.0  # a question that waits takes its time there
    longest_pause_s = 4.0

    NOTICE_S = 30.0
    """Between the notice and the end."""
    WAIT_S = 60
    """How long a question waits for a change."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._waits = False

    def look(self) -> Notice | None:
        """Return the notice, or None where there is none yet."""
        # The first question does not wait: the change may be over.
        wait = f"?wait_for_change=true&timeout_sec={self.WAIT_S}" if self._waits else ""
        self._waits = False
        answer = self._fetch(
            "GET",
            f"/computeMetadata/v1/instance/preempted{wait}",
            {"Metadata-Flavor": "Google"},
            TIMEOUT_S + (self.WAIT_S if wait else 0),
        )
        _check(answer, "whether it is preempted")
        value = answer.body.strip().upper()
        if not answer.from_google or value not in ("TRUE", "FALSE"):
            raise UnclearAnswerError(f"no notice can be read from {answer.body[:100]!r}")
        self._waits = True
        if value == "FALSE":
            return None
        return Notice(said="Compute Engine preempts this instance", ends_at=self._clock() + self.NOTICE_S)


ENDPOINTS = {"aws": "http://169.254.169.254", "gcp": "http://169.254.169.254"}
"""Where each cloud's metadata service answers, on every machine of it; by address, since a name could be answered by
somebody else."""


def fetch_from(endpoint: str) -> Fetch:
    """Return a function that asks the service at `endpoint`, past proxies and not beyond it.

    Raises:
        ValueError: that is not an endpoint.
    """
    if not re.fullmatch(r"http://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?", endpoint):
        raise ValueError(f"endpoint must be like http://HOST or http://HOST:PORT, got {endpoint!r}.")

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments: object) -> None:  # noqa: ARG002 - the library's signature
            return None

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)

    def fetch(method: str, path: str, headers: dict[str, str], timeout_s: float) -> Answer:
        request = urllib.request.Request(  # noqa: S310 - http, checked above
            endpoint.rstrip("/") + path, method=method, headers=headers
        )
        try:
            try:
                response = opener.open(request, timeout=timeout_s)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                return Answer(
                    status=response.status,
                    body=response.read(LARGEST_ANSWER).decode(errors="replace"),
                    from_google=response.headers.get("Metadata-Flavor") == "Google",
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnclearAnswerError(f"no answer ({type(error).__name__}: {error})") from error

    return fetch


def watch(
    cloud: Cloud,
    drain: Callable[[Notice], bool],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
    say: Callable[[str], object] = print,
) -> bool:
    """Wait for the notice and drain the node once; return whether that was done before the end.

    Args:
        cloud: asked again and again.
        drain: tries it once, and returns whether the cluster has accepted it.
        clock: seconds since 1970.
        sleep: waits for so many seconds.
        say: takes a line for people.
    """
    notice = _wait_for_notice(cloud, sleep, say)
    say(f"notice: {notice.said}, in {notice.ends_at - clock():.0f} s")
    attempt = 0
    while True:
        if drain(notice):
            say("drained: trials go on elsewhere")
            return True
        attempt += 1
        pause = min(cloud.longest_pause_s, 2.0 ** min(attempt, 10) / 2)
        if clock() + pause >= notice.ends_at:
            say("not drained in time: trials go on elsewhere from the last epoch that they kept")
            return False
        sleep(pause)


def drain_node(notice: Notice, *, address: str, node_id: str | None, clock: Callable[[], float] = time.time) -> bool:
    """Ask the cluster once to drain a node, this one where no other is named; return whether it accepts."""
    # Ray lets this node's own id be found by whoever joins its cluster from here, by this variable.
    environment = os.environ | {"RAY_ADDRESS": address}
    named = ("--node-id", node_id) if node_id is not None else ()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", address, *named),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", notice.said),
        *("--deadline-remaining-seconds", str(max(1, math.floor(notice.ends_at - clock())))),
    ]
    try:
        done = subprocess.run(command, env=environment, timeout=DRAIN_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    app = cyclopts.App(name="python -m sweep.spot", help=__doc__, version_flags=(), result_action="return_value")

    @app.default
    def run(
        *,
        provider: str | None = None,
        address: str | None = None,
        node_id: str | None = None,
        endpoint: str | None = None,
    ) -> int:
        """Watch for the cloud's notice, and drain this node when it comes.

        Args:
            provider: whose notice to watch for: aws or gcp.
            address: HOST:PORT of the cluster's head; default: RAY_ADDRESS, else that of the node that runs here.
            node_id: the node to drain, 56 hexadecimal digits; default: the one that runs here.
            endpoint: where the metadata service answers; default: where it does in this cloud.
        """
        if provider is None or provider not in ENDPOINTS:
            raise ValueError(f"provider must be aws or gcp, got {'none' if provider is None else repr(provider)}.")
        if node_id is not None and not re.fullmatch(r"[0-9a-f]{56}", node_id):
            raise ValueError(f"node_id must be the 56 hexadecimal digits of a Ray node, got {node_id!r}.")
        address = address or os.environ.get("RAY_ADDRESS") or "auto"
        if not re.fullmatch(r"auto|([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", address):
            raise ValueError(f"address must be HOST:PORT of a Ray cluster's head, or auto, got {address!r}.")
        fetch = fetch_from(endpoint if endpoint is not None else ENDPOINTS[provider])
        cloud = Aws(fetch) if provider == "aws" else Gcp(fetch)
        where = address
        done = watch(cloud, lambda notice: drain_node(notice, address=where, node_id=node_id), say=_say)
        return DRAINED if done else NOT_DRAINED

    try:
        status = app(list(sys.argv[1:] if arguments is None else arguments), exit_on_error=False, print_error=False)
        return DRAINED if status is None else int(status)  # None: help was asked for
    except (cyclopts.CycloptsError, ValueError) as error:
        print(f"error: {line(error, longest=None)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _wait_for_notice(cloud: Cloud, sleep: Callable[[float], object], say: Callable[[str], object]) -> Notice:
    unclear = 0
    while True:
        try:
            notice = cloud.look()
        except UnclearAnswerError as error:
            if not unclear:
                say(f"the metadata service must say whether there is a notice, got {error}; asking on")
            unclear += 1
            sleep(min(cloud.longest_pause_s, 2.0 ** min(unclear, 10) / 2))
            continue
        if unclear:
            say("the metadata service answers again")
            unclear = 0
        if notice is not None:
            return notice
        sleep(cloud.pause_s)


def _check(answer: Answer, what: str) -> None:
    if answer.status != HTTPStatus.OK:
        raise UnclearAnswerError(f"status {answer.status} for {what}")


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {line}", flush=True)

"""Have trials that share a GPU compute on it at the same time: NVIDIA's MPS on each node with GPUs, while a run lasts.

Each such node has an actor that owns a keeper, see `sweep.cluster.mps`. The actor ends with the driver, and the
keeper with the actor.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, final

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.mps import VARIABLE, Answer, Keeper, folder_of, pipe_in

ANSWER_WITHIN_S = 60.0
"""How long a run waits for the nodes that are up: the first process on a node waits for the code to arrive."""

LOOK_EVERY_S = 2.0
"""How often to look for nodes that have joined."""

JOIN_WITHIN_S = 15.0
"""How long a trial waits for MPS on a node that has just joined."""

END_WITHIN_S = 8.0
"""How long a run waits for the daemons to end, which they do in any case; less than a lost cluster leaves it, see
`sweep.cluster.liveness`."""

Way = Literal["mps", "time-slicing", "mps on some nodes"]


@final
class Sharing:
    """MPS on the nodes of a cluster that have GPUs."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._said: set[str] = set()
        self._keepers: dict[str, Any] = {}
        self._pending: dict[Any, str] = {}
        self._answers: dict[str, Answer] = {}

    @property
    def way(self) -> Way | None:
        """How trials share the GPUs of the nodes that have answered."""
        return way_of(self._answers.values())

    def look(self, wait_s: float = 0.0) -> None:
        """Find or start a daemon on each node that has GPUs and has not been asked, and say what came of it.

        Args:
            wait_s: how long to wait for answers; later ones are said by a later call.
        """
        up = {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}
        for node in up - set(self._keepers):
            actor = ray.remote(num_cpus=0)(Keeper).options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            )
            self._keepers[node] = actor.remote(folder_of(node, ray.get_runtime_context().get_job_id()))
            self._pending[self._keepers[node].answer.remote()] = node
        if not self._pending:
            return
        new = {}
        for reference in ray.wait(list(self._pending), num_returns=len(self._pending), timeout=wait_s)[0]:
            node = self._pending.pop(reference)
            try:
                new[node] = ray.get(reference)
            except ray.exceptions.RayError as error:
                if node in up:
                    new[node] = Answer(pipe="", started=False, reason=f"{type(error).__name__} on the way to the node")
        self._answers |= new
        for sentence in sentences(new.values()):
            if sentence not in self._said:
                self._said.add(sentence)
                self._say(f"{'MPS':>15}  {sentence}")

    def end(self) -> None:
        """End the daemons that were started."""
        ended = [keeper.end.remote() for keeper in self._keepers.values()]
        if ended:
            ray.wait(ended, num_returns=len(ended), timeout=END_WITHIN_S)


def way_of(answers: Iterable[Answer]) -> Way | None:
    """Return how trials share GPUs on nodes that gave these answers; None where there are none."""
    ways: set[Way] = {"mps" if answer.pipe else "time-slicing" for answer in answers}
    return "mps on some nodes" if len(ways) > 1 else next(iter(ways), None)


def sentences(answers: Iterable[Answer]) -> Iterator[str]:
    """Yield what to say of the nodes that gave these answers, those that gave the same one together."""
    for (started, reason), count in Counter((answer.started, answer.reason) for answer in answers).items():
        nodes = f"{count} node" if count == 1 else f"{count} nodes"
        if reason:
            yield f"not used on {nodes}: {reason}; trials that share a GPU there take turns"
        elif started:
            yield f"started on {nodes}: trials that share a GPU compute at the same time"
        else:
            yield f"runs already on {nodes} and is used: trials that share a GPU compute at the same time"


@contextlib.contextmanager
def mps_on_nodes(say: Callable[[str], object]) -> Iterator[Sharing]:
    """Have a daemon on each node with GPUs until the context ends, on those that join meanwhile too.

    Args:
        say: takes a line for the user, from another thread too.
    """
    sharing = Sharing(say)
    over = threading.Event()

    def look_on() -> None:
        while not over.wait(LOOK_EVERY_S):
            # The head does not answer: whether the cluster is lost is found out elsewhere.
            with contextlib.suppress(OSError, ray.exceptions.RayError):
                sharing.look()

    thread = threading.Thread(target=look_on, daemon=True, name="MPS on new nodes")
    try:
        sharing.look(ANSWER_WITHIN_S)
        thread.start()
        yield sharing
    finally:
        over.set()
        if thread.ident is not None:
            thread.join(LOOK_EVERY_S)
        sharing.end()


def join_mps() -> bool:
    """Have CUDA in this process use its node's daemon, where there is one; return whether it does.

    A process that has used CUDA keeps what it has: CUDA looks for a daemon once.
    """
    context = ray.get_runtime_context()
    folder = folder_of(context.get_node_id(), context.get_job_id())
    has_used_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if not has_used_cuda and (pipe := pipe_in(folder, JOIN_WITHIN_S)):
        os.environ[VARIABLE] = pipe
    return os.environ.get(VARIABLE, "").startswith(folder)

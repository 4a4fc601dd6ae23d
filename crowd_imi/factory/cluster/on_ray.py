"""A crew on a Ray cluster: a worker for every GPU, or, where there is none, as many as the processors have room for."""

import platform
import socket
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from crowd_imi.errors import FactoryError
from crowd_imi.factory.cluster.bench import Bench, Place
from crowd_imi.factory.cluster.crew import Crew, Done, Failed, Lost, Piece, answer

SAME = ("crowd-imi", "numpy", "pillow", "timm", "torch")
"""Whose versions are the same on all machines."""
COMING_SECONDS = 600
"""In which a worker comes where no other is at work: a machine that goes before it has begun its worker takes the room away, and
Ray would wait for another one for ever."""


class OnRay(Crew):
    """Workers come into being where the cluster has room, and work as soon as they are there.

    A machine that goes takes its worker with it, whatever Ray could begin anew: the others go on.
    """

    def __init__(self, address: str, place: Place) -> None:
        """Join the cluster.

        Args:
            address: of its head, HOST:PORT; ``auto`` is the one on this machine.
            place: for a worker; its device is found here.

        Raises:
            FactoryError: there is no cluster there, or its Ray or Python is another one.
        """
        super().__init__()
        _join(address)
        resources: dict[str, float] = ray.cluster_resources()
        machines: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        self.kind: Literal["cpu", "cuda"] = "cuda" if gpus else "cpu"
        # A processor's worker takes as many as it computes with; a GPU's takes what it decodes with.
        self._cpus = place.decoders or max(1, cpus // gpus) if gpus else place.threads
        self._count = gpus or sum(int(machine["Resources"].get("CPU", 0)) // self._cpus for machine in machines)
        if not self._count:
            ray.shutdown()
            raise FactoryError(
                f"--cluster {address}: no machine there has the {self._cpus} processors that a worker computes with; begin with "
                "fewer, by OMP_NUM_THREADS"
            )
        self._place = replace(place, device=self.kind, decoders=place.decoders or self._cpus)
        self._workers: list[Any] = []
        self._answers: dict[Any, int] = {}
        """What Ray will give → the worker that gives it."""
        self._coming: set[int] = set()
        """Workers that haven't said yet that they are ready."""

    def close(self) -> None:
        for worker in self._workers:
            with suppress(RayError):
                ray.kill(worker)
        self._workers = []
        ray.shutdown()

    def _begin(self) -> int:
        kind: Any = ray.remote(num_cpus=self._cpus, num_gpus=1 if self.kind == "cuda" else 0, max_restarts=0)(_Worker)
        self._workers = [kind.remote(self._place) for _ in range(self._count)]
        for number, worker in enumerate(self._workers):
            self._answers[worker.ready.remote(_versions())] = number
        self._coming = set(range(self._count))
        self._late = time.monotonic() + COMING_SECONDS
        return self._count

    def _give(self, worker: int, piece: Piece[object], attempt: int) -> None:
        self._answers[self._workers[worker].do.remote(piece, attempt)] = worker

    def _next(self) -> tuple[int, Done | Failed | Lost]:
        nobody_works = self._coming.issuperset(self._answers.values())
        patience = max(0.0, self._late - time.monotonic()) if nobody_works else None
        ready, waiting = ray.wait(list(self._answers), num_returns=1, timeout=patience)
        answer_of = (ready or waiting)[0]
        worker = self._answers.pop(answer_of)
        self._coming.discard(worker)
        if not ready:
            ray.kill(self._workers[worker])  # it would take the room of one that is still waited for
            return worker, Lost(f"didn't come within {COMING_SECONDS} s")
        try:
            said: Done | Failed = ray.get(answer_of)
        except RayError as error:
            return worker, Lost(f"is lost ({type(error).__name__})")
        return worker, said

    def _called(self, worker: int) -> str:
        return f"worker {worker} of the cluster"


def _join(address: str) -> None:
    try:
        if address != "auto":
            _knock(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise FactoryError(
            f"--cluster {address}: no Ray cluster can be joined there ({str(error).splitlines()[0]}); begin one with "
            "`ray start --head` and name its address, HOST:PORT"
        ) from error


def _knock(address: str) -> None:
    """See whether anybody is there: Ray itself would try for ten minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("this is no HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class _Worker:
    """An actor."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def ready(self, wanted: dict[str, str]) -> Done | Failed:
        here = _versions()
        if here != wanted:
            others = ", ".join(f"{name} {here[name]} and not {wanted[name]}" for name in wanted if here[name] != wanted[name])
            return Failed(FactoryError(f"{socket.gethostname()}: this machine of the cluster has {others}; install the same"))
        _ = self._bench  # it is made now, and what it raises is this machine's beginning
        return Done(None)

    def do(self, piece: Piece[object], attempt: int) -> Done | Failed:
        return answer(piece, self._bench, attempt)

    @cached_property
    def _bench(self) -> Bench:
        return Bench(self._place)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in SAME}}

"""A crew of processes on this machine, one for each device."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal

from crowd_imi.factory.cluster.bench import Bench, Place
from crowd_imi.factory.cluster.crew import Crew, Done, Failed, Lost, Piece, answer


@dataclass(frozen=True, slots=True)
class _Worker:
    device: str
    process: SpawnProcess
    pipe: Connection


class Processes(Crew):
    """Begun anew, not forked: a fork would share what CUDA and torch's threads have begun."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__()
        self.kind: Literal["cpu", "cuda"] = "cpu" if places[0].device == "cpu" else "cuda"
        self._places = places
        self._workers: list[_Worker] = []

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()  # what it has written counts only once it has said so
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers = []

    def _begin(self) -> int:
        context = multiprocessing.get_context("spawn")
        for number, place in enumerate(self._places):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, place), name=f"worker {number}", daemon=True)
            process.start()
            there.close()  # so that its end is seen when the process ends
            self._workers.append(_Worker(place.device, process, here))
        return len(self._workers)

    def _give(self, worker: int, piece: Piece[object], attempt: int) -> None:
        with suppress(OSError):
            self._workers[worker].pipe.send((piece, attempt))

    def _next(self) -> tuple[int, Done | Failed | Lost]:
        pipes: dict[object, int] = {self._workers[number].pipe: number for number in self._there}
        number = pipes[wait([self._workers[number].pipe for number in self._there])[0]]
        try:
            return number, self._workers[number].pipe.recv()
        except (EOFError, OSError):
            process = self._workers[number].process
            process.join()
            return number, Lost(f"ended (exit status {process.exitcode})")

    def _called(self, worker: int) -> str:
        return f"worker {worker} on {self._workers[worker].device}"


def _work(pipe: Connection, place: Place) -> None:
    """Until the one who began it closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the one who asked decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    said: Done | Failed = Done(None)
    try:
        bench = Bench(place)
        pipe.send(said)
        while True:
            piece, attempt = pipe.recv()
            pipe.send(answer(piece, bench, attempt))
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """A killed parent's successor does the same pieces, and must not meet this process there."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

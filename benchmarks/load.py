"""Many participants at a human pace, as a process of its own: ``python -m benchmarks.load < plan.json > outcome.json``.

An open loop: when a request is due doesn't depend on how long the ones before it took, and a reply's time counts from when its
request was due. (Closed loops, as of most load generators, send less when the server is slow, and so measure it where it is
fast.) Python's asyncio and plain sockets, since what generates the load shares the two cores with what is measured.
"""

import asyncio
import json
import math
import sys
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

PATIENCE = 30.0
"""Seconds; a request that takes longer is an error."""


@dataclass
class Window:
    """What came of one window: how long each reply took, in seconds, and what wasn't 2xx."""

    rate: float
    took: list[float] = field(default_factory=list)
    errors: int = 0
    spent: int = 0
    """Answers that nobody could give, because all trials of the participant were answered."""

    def document(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "replies": len(self.took),
            "errors": self.errors,
            "p50_ms": 1000 * quantile(self.took, 0.5),
            "p99_ms": 1000 * quantile(self.took, 0.99),
        }


def quantile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of all doesn't exceed; infinite where there is none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.inf


class Participant:
    """One browser: a connection that is kept while the server keeps it, and one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.lock = asyncio.Lock()
        self.position = 0

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
        """Send one request; its reply's status."""
        head = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        kept = self._open is not None
        try:
            return await self._exchange("\r\n".join(lines).encode() + body)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if not kept:
                raise
        # The server closed a connection that was idle, as browsers know them; every request may be sent again.
        return await self._exchange("\r\n".join(lines).encode() + body)

    async def _exchange(self, request: bytes) -> int:
        if self._open is None:
            self._open = await asyncio.open_connection(*self._where)
        reader, writer = self._open
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
        await reader.readexactly(int(length or 0))
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


class Crowd:
    """Everybody at one address."""

    def __init__(self, plan: dict[str, Any], tokens: list[str], bare: bool) -> None:
        port = plan["bare_port"] if bare else plan["port"]
        self.people = [Participant("127.0.0.1", port) for _ in tokens]
        self.tokens = tokens
        self.trials: int = plan["trials"]
        self.bare = bare
        self.acknowledged = [0] * len(self.people)

    async def window(self, rate: float, seconds: float, rng: Random) -> Window:
        """Everybody answers at an individual pace; together it is ``rate`` answers a second."""
        window = Window(rate)
        gap = len(self.people) / rate
        loop = asyncio.get_running_loop()
        begin, due = loop.time() + 0.1, []
        for index in range(len(self.people)):
            at = rng.uniform(0, gap)
            while at < seconds:
                due.append((at, index))
                # People differ from trial to trial; the mean stays what the rate asks for.
                at += gap * rng.lognormvariate(-0.045, 0.3)
        tasks = []
        for at, index in sorted(due):
            await asyncio.sleep(begin + at - loop.time())
            tasks.append(asyncio.create_task(self._answer(index, begin + at, window)))
        await asyncio.gather(*tasks)
        return window

    async def _answer(self, index: int, due: float, window: Window) -> None:
        person = self.people[index]
        async with person.lock:
            if person.position >= self.trials and not self.bare:
                window.spent += 1
                return
            answer = {
                "position": person.position,
                "row": "upper",
                "confidence": 2,
                "rt_ms": 1800.5,
                "shown_ms": 1800.5,
                "saving_ms": 20,
            }
            headers = {"X-Visit-Token": self.tokens[index], "Content-Type": "application/json"}
            path = "/bare" if self.bare else "/api/answers"
            try:
                status = await asyncio.wait_for(person.send("POST", path, headers, json.dumps(answer).encode()), PATIENCE)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                person.close()
                window.errors += 1
                return
            if status // 100 != 2:
                window.errors += 1
                return
            person.position += 1
            self.acknowledged[index] += 1
            window.took.append(asyncio.get_running_loop().time() - due)

    def close(self) -> None:
        for person in self.people:
            person.close()


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then both in alternation at the given rate, then in alternation how fast each may go.

    Those who were there for the first have few trials left, so others come for the highest rates: an equal part of all tokens for
    two searches each.
    """
    rng = Random(plan["seed"])
    crowds = 1 + late_crowds(plan["searches"])
    size = len(plan["tokens"]) // crowds
    first, *late = (Pair(plan, plan["tokens"][number * size : (number + 1) * size]) for number in range(crowds))
    pairs = await windows(first, plan, rng)
    floors = await searches(late, plan, rng)
    return {
        "pairs": pairs,
        "floors": floors,
        "acknowledged": [count for pair in (first, *late) for count in pair.ours.acknowledged],
        "bare_acknowledged": sum(sum(pair.bare.acknowledged) for pair in (first, *late)),
    }


class Pair:
    """The same people at the pages and at the bare application."""

    def __init__(self, plan: dict[str, Any], tokens: list[str]) -> None:
        self.ours, self.bare = (Crowd(plan, tokens, kind) for kind in (False, True))

    def in_turn(self, number: int) -> list[tuple[str, Crowd]]:
        """Both with their names: every other time the other one first."""
        both = [("ours", self.ours), ("bare", self.bare)]
        return both if number % 2 == 0 else both[::-1]

    def close(self) -> None:
        self.ours.close()
        self.bare.close()


async def windows(pair: Pair, plan: dict[str, Any], rng: Random) -> list[dict[str, Any]]:
    """What both took at the given rate, window by window."""
    # Until each worker has met most of the tasks, as it has when people come one by one.
    await pair.ours.window(plan["rate"], plan["warm_up_s"], rng)
    await pair.bare.window(plan["rate"], plan["warm_up_s"] / 4, rng)
    found = []
    for number in range(plan["windows"]):
        turns = pair.in_turn(number)
        found.append({name: (await crowd.window(plan["rate"], plan["window_s"], rng)).document() for name, crowd in turns})
    pair.close()
    return found


async def searches(pairs: list[Pair], plan: dict[str, Any], rng: Random) -> list[dict[str, Any]]:
    """The highest rates of both, search by search; each pair makes two of the searches."""
    floors: list[dict[str, Any]] = []
    for part, pair in enumerate(pairs):
        for crowd in (pair.ours, pair.bare):
            await crowd.window(plan["rate"], plan["floor_s"], rng)  # connections are made, and a first answer costs more
        for number in range(2 * part, min(2 * part + 2, plan["searches"])):
            found = {}
            for name, crowd in pair.in_turn(number):
                near = floors[-1][name]["rate"] / plan["floor_step"] ** 2 if floors else 0.0
                found[name] = await floor(crowd, plan, near or plan["floor_from"], rng)
            floors.append(found)
        pair.close()
    return floors


def late_crowds(searches: int) -> int:
    """How many crowds so many searches for the highest rate need, who all have their trials before them."""
    return (searches + 1) // 2


async def floor(crowd: Crowd, plan: dict[str, Any], start: float, rng: Random) -> dict[str, Any]:
    """The highest rate that holds the limit: rising from ``start``, or falling where that is too fast already.

    One miss may be chance, the second at the same rate ends the rise. 0 where even ``floor_from`` over ten isn't held.

    Raises:
        RuntimeError: somebody had no trial left, so that less was sent than was meant.
    """
    steps: list[dict[str, Any]] = []

    async def holds(rate: float) -> bool:
        for _ in range(2):
            window = await crowd.window(rate, plan["floor_s"], rng)
            if window.spent:
                raise RuntimeError(f"{rate:.0f} answers a second can't be judged with so few participants: no trial is left")
            steps.append(window.document())
            if steps[-1]["p99_ms"] <= plan["limit_ms"] and not steps[-1]["errors"]:
                return True
        return False

    step, rate = plan["floor_step"], start
    if await holds(rate):
        while rate * step <= plan["floor_to"] and await holds(rate * step):
            rate *= step
        return {"rate": rate, "steps": steps}
    while rate > plan["floor_from"] / 10:
        rate /= step
        if await holds(rate):
            return {"rate": rate, "steps": steps}
    return {"rate": 0.0, "steps": steps}


async def sprites(plan: dict[str, Any]) -> dict[str, Any]:
    """Eight browsers that load sprites one after the other, as fast as they come."""
    end, count = time.monotonic() + plan["sprites_s"], 0

    async def load(number: int) -> int:
        browser, done = Participant("127.0.0.1", plan["port"]), 0
        while time.monotonic() < end:
            path = plan["sprites"][(number + done) % len(plan["sprites"])]
            if await browser.send("GET", path, {}) == 200:
                done += 1
        browser.close()
        return done

    count = sum(await asyncio.gather(*(load(number) for number in range(8))))
    return {"sprites_per_s": count / plan["sprites_s"]}


def main() -> None:
    """Read the plan, write the outcome."""
    plan = json.load(sys.stdin)
    json.dump(asyncio.run(sprites(plan) if "sprites" in plan else run(plan)), sys.stdout)


if __name__ == "__main__":
    main()

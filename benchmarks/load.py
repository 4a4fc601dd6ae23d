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
                window.errors += 1  # nothing is left to answer: this rate can't be judged with so few participants
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
    """Warm up, then both in alternation at the given rate, then each at rising rates until the limit is missed.

    For the rising rates as many people come anew: those who were there before have few trials left.
    """
    rng = Random(plan["seed"])
    half = len(plan["tokens"]) // 2
    ours, bare = (Crowd(plan, plan["tokens"][:half], kind) for kind in (False, True))
    # Until each worker has met most of the tasks, as it has when people come one by one.
    await ours.window(plan["rate"], plan["warm_up_s"], rng)
    await bare.window(plan["rate"], plan["warm_up_s"] / 4, rng)
    pairs = []
    for number in range(plan["windows"]):
        both = [(ours, "ours"), (bare, "bare")]
        found = {}
        for crowd, name in both if number % 2 == 0 else reversed(both):
            found[name] = (await crowd.window(plan["rate"], plan["window_s"], rng)).document()
        pairs.append(found)
    for crowd in (ours, bare):
        crowd.close()
    late, late_bare = (Crowd(plan, plan["tokens"][half:], kind) for kind in (False, True))
    floors = {name: await floor(crowd, plan, rng) for crowd, name in ((late, "ours"), (late_bare, "bare"))}
    for crowd in (late, late_bare):
        crowd.close()
    acknowledged = ours.acknowledged + late.acknowledged
    stored_bare = sum(bare.acknowledged) + sum(late_bare.acknowledged)
    return {"pairs": pairs, "floors": floors, "acknowledged": acknowledged, "bare_acknowledged": stored_bare}


async def floor(crowd: Crowd, plan: dict[str, Any], rng: Random) -> dict[str, Any]:
    """The highest of rising rates that holds the limit; one miss may be chance, the second at the same rate ends it."""
    best, steps, rate = 0.0, [], plan["floor_from"]
    while rate <= plan["floor_to"]:
        for _ in range(2):
            step = (await crowd.window(rate, plan["floor_s"], rng)).document()
            steps.append(step)
            held = step["p99_ms"] <= plan["limit_ms"] and not step["errors"]
            if held:
                break
        if not held:
            break
        best, rate = rate, rate * plan["floor_step"]
    return {"rate": best, "steps": steps}


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

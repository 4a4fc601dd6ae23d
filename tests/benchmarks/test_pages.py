"""The benchmark of the pages in small: what its generator measures, and that every goal has its figure."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from random import Random
from typing import Any

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from benchmarks import pages
from benchmarks.load import Crowd, Window, floor, quantile
from benchmarks.sprite_bytes import bytes_ratios

TINY = {"windows": 1, "window_s": 1.0, "warm_up_s": 0.3, "floor_from": 10.0, "floor_to": 10.0, "floor_s": 0.3, "limit_ms": 1e9}
TINY |= {"sprites_s": 0.5, "searches": 3}


def test_a_quantile_is_the_smallest_value_that_so_many_dont_exceed():
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.99), quantile(values, 0.5), quantile([7.0], 0.99)) == (99.0, 50.0, 7.0)
    assert quantile([], 0.5) == math.inf


def test_waiting_for_a_slow_server_counts():
    # One participant, ten answers a second, each of which takes the server 0.3 s: those that queue up wait longer and longer.
    gate = threading.Event()

    @Request.application
    def slow(request: Request) -> Response:
        gate.wait(0.3)
        return Response("{}")

    server = make_server("127.0.0.1", 0, slow, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        crowd = Crowd({"port": server.port, "bare_port": server.port, "trials": 45}, ["t"], bare=False)
        with ThreadPoolExecutor(1) as elsewhere:  # a browser that an earlier test opened has the loop of this thread
            window = elsewhere.submit(lambda: asyncio.run(crowd.window(10.0, 1.0, Random(3)))).result()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert window.errors == 0 and len(window.took) >= 5
    # A closed loop would have measured 0.3 s for each.
    assert min(window.took) >= 0.3 and max(window.took) > 0.9


class Limited:
    """A crowd whose server holds the limit up to a rate, but for windows that it is told to miss."""

    def __init__(self, holds: float, *chance: int) -> None:
        self._holds, self._chance = holds, chance
        self.rates: list[float] = []
        self.spent = 0

    async def window(self, rate: float, seconds: float, rng: Random) -> Window:
        self.rates.append(rate)
        missed = rate > self._holds or len(self.rates) in self._chance
        return Window(rate, [0.2 if missed else 0.01], spent=self.spent)


@pytest.mark.parametrize("start", [50, 100, 400, 1600, 3200])
def test_the_highest_rate_is_found_from_below_and_from_above(start: float):
    crowd = Limited(500)
    assert search(crowd, start)["rate"] == 400
    assert all(rate >= 400 for rate in crowd.rates[2:]) or start < 400


def test_one_miss_may_be_chance_and_what_never_holds_is_zero():
    crowd = Limited(500, 2)
    assert search(crowd, 100)["rate"] == 400 and crowd.rates == [100, 200, 200, 400, 800, 800]
    assert search(Limited(0), 400)["rate"] == 0


def test_a_search_that_runs_out_of_trials_says_so():
    crowd = Limited(500)
    crowd.spent = 1
    with pytest.raises(RuntimeError, match="400 answers a second can't be judged with so few participants"):
        search(crowd, 400)


def search(crowd: Limited, start: float) -> dict[str, Any]:
    plan = {"floor_step": 2, "floor_from": 100, "floor_to": 3000, "floor_s": 1, "limit_ms": 150}
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(lambda: asyncio.run(floor(crowd, plan, start, Random(1)))).result()


def test_every_goal_has_its_figure_and_nothing_is_lost():
    told = pages.measure(6, None, {"rate": 10.0, **TINY})
    figures = told["figures"]
    assert set(pages.GOALS) <= set(figures) | set(bytes_ratios(20, trials=2))
    assert (figures["participants"], figures["errors"], figures["lost"], figures["doubled"]) == (6, 0, 0, 0)
    assert figures["sprites_per_s"] > 0 and figures["answers_per_s"] > 0
    assert "lost" in pages.table({"figures": figures, "goals": pages.GOALS, "sqlite": figures})


def test_answers_that_went_missing_are_counted(monkeypatch):
    window = {"rate": 1.0, "replies": 3, "errors": 0, "p50_ms": 1.0, "p99_ms": 2.0}
    said = {"pairs": [{"ours": window, "bare": window}], "floors": [{"ours": window, "bare": window}]}
    # The server, its load and its database are the test's: of three participants' 5, 4 and 3 answers 5, 2 and 3 are there.
    monkeypatch.setattr(pages, "serving", lambda *_: nullcontext({}))
    monkeypatch.setattr(pages, "generate", lambda _plan: {**said, "acknowledged": [5, 4, 3], "sprites_per_s": 1.0})
    monkeypatch.setattr(pages, "stored", lambda *_: ([5, 2, 3], 3))
    figures = pages.measure(3, None, {"rate": 10.0, **TINY})["figures"]
    assert (figures["lost"], figures["doubled"]) == (2, 3)

"""Which answers to a list of bonuses the adapter takes for the whole list, before anything is paid."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from crowd_imi.errors import PlatformError
from crowd_imi.platforms.base import BonusOrder
from crowd_imi.platforms.prolific import ProlificPlatform
from crowd_imi.records import Money
from crowd_imi.study import ProlificSection

Answer = Callable[[list[int]], float]
"""Minor units that a list asks for → the sum that Prolific says it understood."""


@contextmanager
def prolific(answer: Answer) -> Iterator[tuple[ProlificPlatform, list[str]]]:
    """An adapter whose Prolific understands lists in this way, and the ids of batches that it was told to pay."""
    paid: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say({"id": "s0", "study_id": "study", "status": "AWAITING REVIEW", "participant_id": "p"})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/pay/"):
                paid.append(self.path.split("/")[-3])
                self._say({})
                return
            lines = json.loads(content)["csv_bonuses"].splitlines()
            asked = [round(100 * float(line.split(",")[1])) for line in lines]
            self._say({"id": f"batch{len(asked)}", "amount": answer(asked)})

        def _say(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to see."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield ProlificPlatform("token", ProlificSection(), f"http://127.0.0.1:{server.server_port}"), paid
        finally:
            server.shutdown()


def orders(*amounts: int) -> list[BonusOrder]:
    return [
        BonusOrder(submission=f"s{at}", money=Money(amount=amount, currency="GBP"), key=str(at), reason="thanks")
        for at, amount in enumerate(amounts)
    ]


@pytest.mark.parametrize(
    "answer", [sum, lambda asked: sum(asked) / 100, lambda asked: sum(asked) // 100], ids=["minor", "major", "whole"]
)
def test_a_whole_list_is_paid_in_whatever_unit_its_sum_comes(answer: Answer):
    with prolific(answer) as (platform, paid):
        assert platform.send_bonuses(orders(*[100] * 100), lambda _: None) == "batch batch100"
    assert paid == ["batch100"]


def test_one_bonus_of_a_hundred_is_not_taken_for_all_of_them_in_major_units():
    # 100 × 1.00 GBP = 10,000; Prolific understood the first line alone, 100 in minor units, which is 10,000 / 100.
    with prolific(lambda asked: asked[0]) as (platform, paid), pytest.raises(PlatformError, match="left some out"):
        platform.send_bonuses(orders(*[100] * 100), lambda _: None)
    assert paid == []


@pytest.mark.parametrize("left", [0, 99, 5000], ids=["none", "less than one", "half"])
def test_a_part_of_a_list_is_not_paid(left: int):
    with prolific(lambda _: left) as (platform, paid), pytest.raises(PlatformError, match="in parts"):
        platform.send_bonuses(orders(*[100] * 100), lambda _: None)
    assert paid == []

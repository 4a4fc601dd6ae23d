"""A participant's browser in a test: keeps the token, knows where the right answer is, clicks what it is told."""

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

RIGHT, WRONG = 19, 18
"""Tiles of the max and the min query in every trial of ``tests.tiny.fake_plan``."""


def right_row(trial: dict[str, Any]) -> str:
    return "upper" if trial["upper"] == RIGHT else "lower"


def wrong_row(trial: dict[str, Any]) -> str:
    return "lower" if trial["upper"] == RIGHT else "upper"


class Visitor:
    """One participant."""

    def __init__(self, app: Flask, clock: int | None = None) -> None:
        self.client = app.test_client(use_cookies=False)
        self.clock = clock
        self.token = ""

    def _headers(self) -> dict[str, str]:
        headers = {"X-Visit-Token": self.token} if self.token else {}
        return headers if self.clock is None else {**headers, "X-Rehearsal-Clock": str(self.clock)}

    def get(self, path: str, **parameters: str) -> TestResponse:
        return self.client.get(path, query_string=parameters, headers=self._headers(), buffered=True)

    def post(self, path: str, body: object) -> TestResponse:
        return self.client.post(path, json=body, headers=self._headers())

    def arrive(self, participant: str, submission: str, posting: str) -> TestResponse:
        reply = self.get("/arrive", participant=participant, submission=submission, posting=posting)
        if reply.status_code == 303:
            path, _, self.token = reply.headers["Location"].partition("#")
            assert path == "/visit"
        return reply

    def view(self) -> dict[str, Any]:
        reply = self.get("/api/visit")
        assert reply.status_code == 200, reply.text
        return dict(reply.json)

    def consent(self, agree: bool = True) -> TestResponse:
        return self.post("/api/consent", {"agree": agree, "version": self.view()["texts"]["consent"]["version"]})

    def read_instructions(self) -> TestResponse:
        return self.post("/api/instructions", {"browser": {"name": "Firefox", "window_width": 1280, "pixel_ratio": 1.5}})

    def practise(self, block: dict[str, Any], position: int, row: str | None = None) -> TestResponse:
        chosen = row or right_row(block["trials"][position])
        body = {"block": block["block"], "position": position, "row": chosen, "confidence": 2, "rt_ms": 900.5}
        return self.post("/api/practice", body)

    def answer(self, position: int, row: str, confidence: int = 3) -> TestResponse:
        body = {"position": position, "row": row, "confidence": confidence, "rt_ms": 1800.25, "shown_ms": 4000, "saving_ms": None}
        return self.post("/api/answers", body)

    def begin_trials(self) -> dict[str, Any]:
        """Everything up to the first main trial."""
        assert self.consent().json["step"] == "instructions"
        assert self.read_instructions().json["step"] == "practice"
        block = self.view()["practice"]
        for position in range(len(block["trials"])):
            assert self.practise(block, position).json["correct"]
        return self.view()

    def answer_all(self) -> dict[str, Any]:
        """Everything up to the last main trial, all of it right."""
        view = self.begin_trials() if self.view()["step"] != "main" else self.view()
        for trial in view["main"][view["answered"] :]:
            assert self.answer(trial["position"], right_row(trial)).status_code == 200
        return self.view()

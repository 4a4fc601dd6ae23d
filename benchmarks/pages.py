"""Can a thousand people answer at once? ``python -m benchmarks.pages --participants 1000``.

The task pages' server (gunicorn, two workers, as ``serve`` runs it) and PostgreSQL with fsync on share the machine with the load
generator, which is a process of its own (``benchmarks.load``: an open loop). On the same server and database, in the same
workers, there is a bare Flask route that commits one row.

Figures, with goals where the design sets them
    participants   who are at their trials, each with a connection of its own (≥ 1000)
    p99_ms         99th percentile of storing an answer, median of the windows; one answer per participant in 6 s
    p99_ratio      that over the bare route's at the same rate, in alternation, median over pairs of windows (≤ 3)
    floor_ratio    highest rate that holds p99 ≤ 150 ms over the bare route's, median over pairs of searches (≥ 0.5)
    errors         requests without a 2xx while the windows of the given pace lasted (0)
    lost           answers that were acknowledged and aren't stored (0)
    doubled        answers that are stored twice (0)
    bytes_ratio_natural, bytes_ratio_synthetic
                   bytes of a published visit's pictures over ours (≥ 6, ≥ 2), as ``benchmarks.sprite_bytes`` says
    least_decibels the worst of the tiles that were decoded again (≥ 38)
A second table has SQLite, and sprites that the pages serve themselves; it isn't judged.
"""

import argparse
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from sqlalchemy import func, select, text

from benchmarks.document import document
from benchmarks.load import late_crowds
from benchmarks.postgresql import PostgreSQL
from benchmarks.sprite_bytes import PICTURES, bytes_ratios
from crowd_imi.keys import study_key
from crowd_imi.pages.app import create_app
from crowd_imi.pages.server import Site, listen, serve_sites
from crowd_imi.pages.tokens import Tokens
from crowd_imi.plan import Grid, Plan, PlannedTask, PlannedTrial, PracticeTrial
from crowd_imi.records import SidePair, Tiles
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.engine import database_urls, open_engine
from crowd_imi.store.tables import Answer, Posting, Visit
from crowd_imi.store.tasks import load_tasks
from crowd_imi.study import Study, load_study

PACKAGES = ("crowd-imi", "flask", "gunicorn", "sqlalchemy", "psycopg")
GOALS: dict[str, dict[str, float]] = {
    "participants": {"at_least": 1000},
    "p99_ratio": {"at_most": 3},
    "floor_ratio": {"at_least": 0.5},
    "errors": {"at_most": 0},
    "lost": {"at_most": 0},
    "doubled": {"at_most": 0},
    "bytes_ratio_natural": {"at_least": 6},
    "bytes_ratio_synthetic": {"at_least": 2},
    "least_decibels": {"at_least": 38},
}
SECONDS_PER_ANSWER = 6.0
"""The published visits: 45 trials in some five minutes."""
WORKERS = 2
TRIALS, CATCH = 40, 5
SPRITES, SPRITE_BYTES = 200, 45_000
TOML = """\
schema = 1
[study]
name = "load"
title = "Load"
[images]
folder = "images"
licence = "CC0"
[models.toy]
source = "timm:resnet10t"
layers = ["layer*"]
[[arms]]
model = "toy"
condition = "natural"
units = {trials}
responses = {participants}
[tasks]
trials = {trials}
catch = {catch}
[pages]
contact = "lab@example.org"
investigator = "The lab"
institution = "The institute"
[pay]
reward = 100
cap = {cap}
"""
LOAD: dict[str, Any] = {
    "trials": TRIALS + CATCH,
    "seed": 1,
    "warm_up_s": 15.0,
    "windows": 5,
    "window_s": 12.0,
    "limit_ms": 150.0,
    "searches": 5,
    "floor_from": 400.0,
    "floor_to": 3000.0,
    "floor_step": 1.1,
    "floor_s": 3.0,
    "sprites_s": 5.0,
}


def write_study(folder: Path, participants: int) -> tuple[Study, Plan]:
    """A study with a task for everybody, and sprites of the usual size that show nothing."""
    cap = 100 * participants
    (folder / "study.toml").write_text(TOML.format(trials=TRIALS, catch=CATCH, participants=participants, cap=cap))
    study = load_study(folder)
    study_key(study.key)
    study.sprites.mkdir()
    names = [f"{secrets.token_hex(16)}.avif" for _ in range(SPRITES)]
    for name in names:
        (study.sprites / name).write_bytes(os.urandom(SPRITE_BYTES))
    tiles = Tiles(references=SidePair(min=tuple(range(9)), max=tuple(range(9, 18))), queries=SidePair(min=18, max=19))

    def trial(task: int, position: int) -> PlannedTrial:
        main = position < TRIALS
        unit, sprite = f"toy/layer1/{position % TRIALS}", names[(task * 45 + position) % SPRITES]
        return PlannedTrial(kind="main" if main else "catch", unit=unit, batch=0 if main else -1, sprite=sprite, tiles=tiles)

    plan = Plan(
        study=study.file.study.name,
        seed=1,
        pack_sha256="0" * 64,
        grid=Grid(columns=5, rows=4, tile=224, gutter=8),
        practice=tuple(PracticeTrial(sprite=names[i], tiles=tiles, obvious=i < 4) for i in range(5)),
        tasks=tuple(
            PlannedTask(
                arm=study.file.arms[0].id,
                number=number,
                trials=tuple(trial(number, position) for position in range(TRIALS + CATCH)),
            )
            for number in range(1, participants + 1)
        ),
    )
    plan.save(study.plan)
    return study, plan


def fill(study: Study, plan: Plan, urls: tuple[str, str]) -> list[str]:
    """Databases in which everybody is at the first trial; returns everybody's token."""
    about = {"study": plan.study, "plan_sha256": plan.sha256, "pack_sha256": plan.pack_sha256}
    store, tokens = Store.create(*urls, StoreKind.STUDY, about), Tokens(study_key(study.key))
    now = store.now()
    ids = [secrets.token_hex(8) for _ in plan.tasks]
    with store.write() as session:
        load_tasks(session, plan)
        session.add(Posting(id="load", platform="local", platform_id="load", places=len(ids), state="open", created_at=now))
        session.flush()
        session.add_all(
            Visit(
                id=visit,
                participant=visit,
                posting_id="load",
                task_id=number,
                holds_task=True,
                state="answering",
                payment="unpaid",
                generation=1,
                layout_seed=number,
                label="main",
                arrived_at=now,
                consented_at=now,
                instructed_at=now,
                practised_at=now,
            )
            for number, visit in enumerate(ids, 1)
        )
        kind = "SERIAL" if urls[0].startswith("postgresql") else "INTEGER"
        session.execute(text(f"CREATE TABLE bare (id {kind} PRIMARY KEY, body TEXT)"))
    if urls[0].startswith("postgresql"):
        with store.write() as session:
            session.execute(text("ANALYZE"))
    store.close()
    return [tokens.for_visit(visit, 1) for visit in ids]


def bare_app(url: str) -> Flask:
    """What can't be done with less: one route, one row, one commit."""
    app, engine = Flask("bare"), open_engine(url)

    @app.post("/bare")
    def keep() -> Response:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO bare (body) VALUES (:body)"), {"body": request.get_data(as_text=True)})
        return Response('{"stored":true}', mimetype="application/json")

    return app


def serve(folder: Path, url: str, people_url: str) -> None:
    """The child process: both apps in the same workers, until SIGTERM."""
    study = load_study(folder)
    pages = Site(lambda: create_app(study, Store.open(url, people_url), None, run_folder=folder), listen("127.0.0.1", 0))
    bare = Site(lambda: bare_app(url), listen("127.0.0.1", 0))
    ports = {"port": pages.listener.getsockname()[1], "bare_port": bare.listener.getsockname()[1]}
    serve_sites((pages, bare), WORKERS, lambda: print(json.dumps(ports), flush=True))


@contextmanager
def serving(folder: Path, urls: tuple[str, str]) -> Iterator[dict[str, int]]:
    """The server as a process; gives its ports."""
    command = [sys.executable, "-m", "benchmarks.pages", "--serve", str(folder), *urls]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError((folder / "server.log").read_text())
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def generate(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the load generator as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def stored(urls: tuple[str, str], study: Study, tokens: list[str]) -> tuple[list[int], int]:
    """How many answers each visit has, in the order of the tokens, and how many are there twice."""
    reader, store = Tokens(study_key(study.key)), Store.open(*urls)
    with store.read() as session:
        rows = dict(tuple(row) for row in session.execute(select(Answer.visit_id, func.count()).group_by(Answer.visit_id)))
        distinct = select(Answer.visit_id, Answer.position).distinct().subquery()
        doubled = (session.scalar(select(func.count()).select_from(Answer)) or 0) - (
            session.scalar(select(func.count()).select_from(distinct)) or 0
        )
    store.close()
    return [rows.get(reader.read(token)[0], 0) for token in tokens], doubled


def measure(participants: int, urls: tuple[str, str] | None, changes: dict[str, Any]) -> dict[str, Any]:
    """One database's figures; SQLite in a temporary folder where no URLs are given."""
    with tempfile.TemporaryDirectory(prefix="imi-pages-") as name:
        folder = Path(name)
        load = {**LOAD, "rate": participants / SECONDS_PER_ANSWER, **changes}
        study, plan = write_study(folder, (1 + late_crowds(load["searches"])) * participants)
        places = urls or database_urls(folder)
        tokens = fill(study, plan, places)
        load["tokens"] = tokens
        with serving(folder, places) as ports:
            outcome = generate({**load, **ports})
            pictures = [f"/sprites/{sprite}" for sprite in sorted(plan.sprites)]
            sprites = generate({**ports, "sprites": pictures, "sprites_s": load["sprites_s"]})["sprites_per_s"]
        found, doubled = stored(places, study, tokens)
    pairs, floors = outcome["pairs"], outcome["floors"]
    lost = sum(max(0, said - kept) for said, kept in zip(outcome["acknowledged"], found, strict=True))
    median = statistics.median
    figures = {
        "participants": float(participants),
        "answers_per_s": median(pair["ours"]["replies"] for pair in pairs) / load["window_s"],
        "p50_ms": median(pair["ours"]["p50_ms"] for pair in pairs),
        "p99_ms": median(pair["ours"]["p99_ms"] for pair in pairs),
        "bare_p99_ms": median(pair["bare"]["p99_ms"] for pair in pairs),
        "p99_ratio": median(pair["ours"]["p99_ms"] / pair["bare"]["p99_ms"] for pair in pairs),
        "floor_per_s": median(pair["ours"]["rate"] for pair in floors),
        "bare_floor_per_s": median(pair["bare"]["rate"] for pair in floors),
        "floor_ratio": median(pair["ours"]["rate"] / pair["bare"]["rate"] if pair["bare"]["rate"] else 0.0 for pair in floors),
        "errors": float(sum(pair["ours"]["errors"] for pair in pairs)),
        "lost": float(lost),
        "doubled": float(doubled),
        "sprites_per_s": sprites,
        "sprites_mb_per_s": sprites * SPRITE_BYTES / 1e6,
    }
    return {"figures": figures, "pairs": pairs, "floors": floors}


def pages(participants: int = 1000, changes: dict[str, Any] | None = None, pictures: int = PICTURES) -> dict[str, Any]:
    """Everything: PostgreSQL, which is judged, then SQLite with shorter windows, which isn't."""
    changes, sizes = changes or {}, bytes_ratios(pictures)
    with PostgreSQL(durable=True) as server:
        judged = measure(participants, (server.new_schema(), server.new_schema()), changes)
    other = measure(participants, None, {"windows": 3, "window_s": 5.0, "searches": 1, **changes})
    more = {"windows": judged["pairs"], "floors": judged["floors"], "sqlite": other["figures"]}
    return document(
        {**judged["figures"], **sizes}, GOALS, PACKAGES, workers=WORKERS, seconds_per_answer=SECONDS_PER_ANSWER, **more
    )


def table(told: dict[str, Any]) -> str:
    """For a person: PostgreSQL beside SQLite."""
    lines = [f"{'':22}{'PostgreSQL':>12}{'SQLite':>12}{'goal':>10}"]
    for name, value in told["figures"].items():
        goal = "".join(f"{'≥' if kind == 'at_least' else '≤'} {limit:g}" for kind, limit in told["goals"].get(name, {}).items())
        other = f"{told['sqlite'][name]:12.2f}" if name in told["sqlite"] else " " * 12
        lines.append(f"{name:22}{value:12.2f}{other}{goal:>10}")
    return "\n".join(lines)


def main() -> int:
    """Print the table, or one JSON document; status 1 when a goal isn't met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument(
        "--short", action="store_true", help="a tenth of the time, to see whether it runs; goals mean little then"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--serve", nargs=3, metavar=("FOLDER", "URL", "PEOPLE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), *options.serve[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    short = (
        {"windows": 1, "window_s": 3.0, "warm_up_s": 1.0, "floor_s": 1.5, "floor_step": 2.0, "searches": 1}
        if options.short
        else {}
    )
    told = pages(options.participants, short, PICTURES // 2 if options.short else PICTURES)
    sys.stdout.write((json.dumps(told, indent=2) if options.json else table(told)) + "\n")
    return 0 if told["met"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""Scoring against the published chain: ``python -m benchmarks.score``.

The study has the published experiment's 23 arms with 130,640 valid answers to main trials, and excluded submissions beside
them, in SQLite. Ours is everything from the store to the last table: units, models, comparisons, with all bootstraps. The
published chain (``benchmarks.published_scoring``) begins with tables in memory and ends with unit means, without any interval:
it does less, and is timed per arm, where its masks are shortest.

Figures
    ratio           seconds of the published chain (median of five arms, times 23, in alternation with ours) over the median of
                    five of ours
    growth          seconds of ours with twice the responses over seconds with these: medians of five, in alternation. 2 is
                    linear, and what doesn't depend on the number of responses makes it less
    peak_mb         peak memory of a process that runs ``crowd-imi score``, reading the study and torch-free imports included
    seconds         of ours, from the store to all tables: the median that ``ratio`` takes
    command_seconds  of ``crowd-imi score`` in a process of its own, from its start to its end (median of five): half of it is
                    importing scipy, pandas and matplotlib
    crossed_seconds  of the crossed model of all 23 arms, once: what ``--crossed`` adds
    machine_ratio   seconds of calling the extractor pair by pair, each query with each reference, over those of embedding each
                    image once. Panels as most of the published models have them: eleven with natural references, each with its
                    own, and eleven with synthetic ones, which share theirs. resnet10t with random weights at 64 px, as in the
                    demo, a panel's images decoded once on either side; pair by pair is timed on fifteen panels and scaled up
    machine_ratio_224  the same at 224 px, where a CPU is as busy with a pair's images as with any others: the number of
                    images alone decides
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.document import document
from benchmarks.published_scoring import published, simulate
from benchmarks.responses import Filled, fill

GOALS: dict[str, dict[str, float]] = {
    "ratio": {"at_least": 10},
    "growth": {"at_most": 2.5},
    "peak_mb": {"at_most": 1000},
    "seconds": {"at_most": 5},
    "machine_ratio": {"at_least": 10},
}
PACKAGES = ("crowd-imi", "numpy", "pandas", "scipy", "scikit-posthocs", "sqlalchemy", "statsmodels", "timm", "torch")
TASKS = 142
"""Of an arm: 23 × 142 × 40 = 130,640 answers to main trials."""
ROUNDS = 5


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measured:
        sys.stdout.write(json.dumps(_measured(options.measured)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        told = comparison(Path(folder))
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else table(told))
    return 0 if told["met"] else 1


def comparison(folder: Path, tasks: int = TASKS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Everything measured, in stores made under ``folder``."""
    from benchmarks.pairwise import machine
    from crowd_imi.scoring import score
    from crowd_imi.scoring.crossed_model import with_crossed

    once, twice = (fill(_made(folder / str(size)), size) for size in (tasks, 2 * tasks))
    arms = len(once.study.file.arms)
    tables = [simulate(tasks, seed) for seed in range(rounds)]
    _to_tables(once)  # warm up: imports, files into the page cache
    ours, double, theirs = [], [], []
    for given in tables:
        ours.append(_timed(lambda: _to_tables(once)))
        theirs.append(_timed(lambda given=given: published(*given)))
        double.append(_timed(lambda: _to_tables(twice)))
    crossed = _timed(lambda: with_crossed(score(once.study, once.store)))
    commands = [_command(once.study.folder) for _ in range(rounds)]
    small, large = (machine(_made(folder / f"machine{size}"), rounds, size, units) for size, units in ((64, 12), (224, 2)))
    figures = {
        "ratio": arms * statistics.median(theirs) / statistics.median(ours),
        "growth": statistics.median(double) / statistics.median(ours),
        "peak_mb": max(command["peak_mb"] for command in commands),
        "seconds": statistics.median(ours),
        "command_seconds": statistics.median(command["seconds"] for command in commands),
        "crossed_seconds": crossed,
        "machine_ratio": small.ratio,
        "machine_ratio_224": large.ratio,
        "responses": once.responses,
    }
    more = {"ours_s": ours, "ours_twice_s": double, "published_arm_s": theirs, "arms": arms, "command_s": commands}
    return document(figures, GOALS, PACKAGES, **more, machine=[asdict(small), asdict(large)])


def table(told: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{name:>18}  {value:12.2f}  {told['goals'].get(name, '')}" for name, value in told["figures"].items()]
    return "\n".join([*lines, "goals met" if told["met"] else "a goal isn't met", ""])


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _to_tables(filled: Filled) -> None:
    """What ``crowd-imi score`` does between reading the command line and printing."""
    from crowd_imi.scoring import score, tables
    from crowd_imi.scoring.compare import compare
    from crowd_imi.scoring.reliability import reliabilities

    report = filled.study.folder / "report"
    scores = score(filled.study, filled.store)
    tables.write(scores, report)
    tables.write_comparisons(compare(scores, filled.study.file.study.seed), report)
    tables.write_reliability(reliabilities(scores, filled.study.file.study.seed), report)
    shutil.rmtree(report)


def _command(study: Path) -> dict[str, float]:
    """Seconds and peak memory of ``crowd-imi score`` in a process of its own."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.score", "--measured", str(study)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"seconds": time.perf_counter() - begun, **json.loads(done.stdout)}


def _measured(study: Path) -> dict[str, float]:
    from typer.testing import CliRunner

    from crowd_imi.cli.app import app

    CliRunner().invoke(app, ["score", str(study), "--json"], catch_exceptions=False)
    # Not getrusage: there, a child begins with its parent's peak at its birth.
    status = Path("/proc/self/status").read_text()
    peak = next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"peak_mb": peak / 1e6}


if __name__ == "__main__":
    sys.exit(main())

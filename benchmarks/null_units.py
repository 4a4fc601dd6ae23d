"""Null units, the negative control of the whole chain, over twenty seeds: ``python -m benchmarks.null_units``.

Nobody can answer a null unit above chance, because its activations are permuted over the images before its exemplars
are chosen. So the interval of the null group should hold 0.5 for about 19 of 20 seeds; if it holds 0.5 for far fewer,
something gives the answers away. Every seed draws new units, permutations, panels, tasks and participants, and goes
through the real stages: record, panels, sprites, pages over HTTP, harvest, score. The study is the demo's first arm (natural
references, 24 trained and 24 null units); photographs and network are the demo's, trained once with the first seed.

A seed takes about a minute on two cores; with ``--keep FOLDER`` an interrupted run goes on where it stopped.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.document import document
from crowd_imi.design.plan import make_plan
from crowd_imi.factory.render import render
from crowd_imi.files import write_atomically
from crowd_imi.records import Record
from crowd_imi.rehearsal.demo.photographs import write_images
from crowd_imi.rehearsal.demo.run import begin_study, full_scale, trained
from crowd_imi.rehearsal.run import rehearse
from crowd_imi.scoring.mis import Group, score
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study

SEEDS = tuple(range(1, 21))
"""The demo's own is the first."""
GOALS = {"holds_chance": {"at_least": 18}, "widest": {"at_most": 0.2}}
PACKAGES = ("crowd-imi", "numpy", "pillow", "timm", "torch")


class Row(Record):
    """One seed."""

    seed: int
    null_mean: float
    null_low: float
    null_high: float
    trained_mean: float
    trained_low: float
    trained_high: float
    valid: int
    excluded: int

    @property
    def holds_chance(self) -> bool:
        return self.null_low <= 0.5 <= self.null_high

    @property
    def width(self) -> float:
        return self.null_high - self.null_low

    @property
    def apart(self) -> bool:
        """Trained units above null units, intervals not overlapping."""
        return self.trained_low > self.null_high


def rows(seeds: tuple[int, ...], keep: Path) -> Iterator[Row]:
    """Run every seed; a seed whose row lies in ``keep`` already isn't run again."""
    demo = begin_study(keep / "demo", seeds[0], full_scale().toml)
    trained(write_images(demo.images, seeds[0]), demo, seeds[0])
    for seed in seeds:
        done = keep / f"seed-{seed}.json"
        if not done.exists():
            write_atomically(done, run_seed(demo, seed, keep / "study").model_dump_json().encode())
        yield Row.model_validate_json(done.read_bytes())


def run_seed(demo: Study, seed: int, folder: Path) -> Row:
    """The demo's first arm with this seed."""
    shutil.rmtree(folder, ignore_errors=True)
    study = begin_study(folder, seed, first_arm(full_scale().toml))
    for shared in ("images", "network"):
        (folder / shared).symlink_to((demo.folder / shared).resolve())
    render(study)
    make_plan(study)
    rehearsal = rehearse(study, "null", seed=seed)
    if rehearsal.mismatches:
        raise SystemExit("\n".join(rehearsal.mismatches))
    store = Store.open(*database_urls(study.rehearsal("null")))
    try:
        scores = score(study, store)
    finally:
        store.close()
    return _row(seed, scores.group("null", "natural"), scores.group("trained", "natural"))


def first_arm(toml: str) -> str:
    """The demo's study.toml with no arm but the first."""
    head, first, *others = toml.split("[[arms]]\n")
    rest = others[-1][others[-1].index("[panels]") :]
    return "[[arms]]\n".join([head, first]) + rest


def _row(seed: int, null: Group, real: Group) -> Row:
    return Row(
        seed=seed,
        null_mean=null.mean,
        null_low=null.low,
        null_high=null.high,
        trained_mean=real.mean,
        trained_low=real.low,
        trained_high=real.high,
        valid=real.valid,
        excluded=real.excluded,
    )


def table(done: list[Row]) -> str:
    """For docs/null-units.md."""
    lines = [
        "| seed | null units | holds 0.5 | width | trained units | apart | valid | excluded |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.seed} | {row.null_mean:.3f} [{row.null_low:.3f}, {row.null_high:.3f}] | {'yes' if row.holds_chance else 'no'} "
        f"| {row.width:.3f} | {row.trained_mean:.3f} [{row.trained_low:.3f}, {row.trained_high:.3f}] "
        f"| {'yes' if row.apart else 'no'} | {row.valid} | {row.excluded} |"
        for row in done
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table, or one JSON document; status 1 when a goal isn't met."""
    parser = argparse.ArgumentParser(description="Null units over twenty seeds.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--keep", type=Path, help="folder for finished seeds, to go on after an interruption")
    asked = parser.parse_args()
    begin = time.monotonic()
    done = list(rows(SEEDS, asked.keep or Path(tempfile.mkdtemp(prefix="null-units-"))))
    figures = {
        "holds_chance": sum(row.holds_chance for row in done),
        "widest": round(max(row.width for row in done), 4),
        "apart": sum(row.apart for row in done),
        "seconds": round(time.monotonic() - begin, 1),
    }
    told = document(figures, GOALS, PACKAGES, rows=[row.model_dump() for row in done])
    if asked.json:
        print(json.dumps(told, indent=2))
    else:
        print(table(done))
        print(f"\n{figures}")
    raise SystemExit(0 if told["met"] else 1)


if __name__ == "__main__":
    main()

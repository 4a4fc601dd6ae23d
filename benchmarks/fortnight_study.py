"""The study that a fortnight is spent on: how much of everything, tasks without pictures, and a cap."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.counted_standins import VISIT_MINUTES, Standin
from crowd_imi.keys import study_key
from crowd_imi.plan import Grid, Plan, PlannedTask, PlannedTrial, PracticeTrial
from crowd_imi.platforms.base import price
from crowd_imi.records import Money, SidePair, Tiles, Unit
from crowd_imi.study import Study, load_study

REWARD = 279
_TILES = Tiles(references=SidePair(min=tuple(range(9)), max=tuple(range(9, 18))), queries=SidePair(min=18, max=19))


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens."""

    arms: int = 23
    tasks_per_arm: int = 6
    round_minutes: int = 60
    """The stated interval between two rounds; halfway there is a look at what events told of."""
    kills: float = 0.35
    """Share of rounds in which the harvester is killed, if it isn't through before; of looks, half as many."""
    twice: float = 0.02
    """Share of rounds in which another harvester is started."""
    days: int = 14
    seed: int = 0

    @property
    def tasks(self) -> int:
        return self.arms * self.tasks_per_arm


def write_study(folder: Path, size: Size, cap_share: float, platform: Standin) -> Study:
    """A study of so many arms, with tasks of six main and five catch trials; the cap is so many times what its tasks cost."""
    each = price(platform.platform(), Money(amount=REWARD, currency="USD")).amount
    cap = int(cap_share * size.tasks * each)
    arms = "".join(
        f'[[arms]]\nmodel = "m{number}"\ncondition = "natural"\nunits = 6\nresponses = {size.tasks_per_arm}\n\n'
        f'[models.m{number}]\nsource = "timm:resnet10t"\nlayers = ["layer*"]\n\n'
        for number in range(size.arms)
    )
    text = f"""schema = 1

[study]
name = "fortnight"
title = "A fortnight"
seed = {size.seed}

[images]
folder = "images"
licence = "CC0"

{arms}[panels]
batches = 4
image_size = 32

[tasks]
trials = 6
catch = 5
max_attempts = 10

[exclusion]
max_total_seconds = 100000
min_row_choices = 1

[pages]
contact = "lab@example.org"
investigator = "The lab"
institution = "The institute"
visit_minutes = {VISIT_MINUTES}

[pay]
reward = {REWARD}
cap = {cap}
estimated_minutes = 15
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    study = load_study(folder)
    study_key(study.key)
    return study


def make_plan(study: Study, size: Size) -> Plan:
    """Tasks without pictures: every one asks for each of its arm's six units once."""
    tasks = []
    for arm in study.file.arms:
        units = [Unit(model=arm.model, layer=f"layer{i % 3}", channel=i).key for i in range(arm.units)]
        for number in range(1, size.tasks_per_arm + 1):
            main = [PlannedTrial(kind="main", unit=unit, batch=number % 4, sprite="none", tiles=_TILES) for unit in units]
            catch = [PlannedTrial(kind="catch", unit=unit, batch=-1, sprite="none", tiles=_TILES) for unit in units[:5]]
            tasks.append(PlannedTask(arm=arm.id, number=number, trials=(*main, *catch)))
    plan = Plan(
        study=study.file.study.name,
        seed=size.seed,
        pack_sha256="0" * 64,
        grid=Grid(columns=5, rows=4, tile=32, gutter=8),
        practice=(PracticeTrial(sprite="none", tiles=_TILES, obvious=True),),
        tasks=tuple(tasks),
    )
    plan.save(study.plan)
    return plan

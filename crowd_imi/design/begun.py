"""The plan that a study began with: its store remembers, and as answers point into it, it stays as it was."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from crowd_imi.errors import DesignError, command
from crowd_imi.plan import Amendment, Plan, load_plan
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.store.tables import Task, Trial
from crowd_imi.store.tasks import added_sprites, amendments
from crowd_imi.study import Study

Row = tuple[str, int, str, str, int, dict[str, object], str]
"""A trial: its arm, its task's number, kind, unit, batch, tiles and sprite."""


def current_plan(study: Study) -> Plan:
    """The study's ``plan.json``; once the study has begun, it must be the plan that it began with.

    Raises:
        DesignError: there is none, it is damaged, or it was changed.
        StoreError: the study has begun, and its databases can't be used.
    """
    with _begun(study) as store:
        return load_plan(study.plan, sha256=None if store is None else store.about("plan_sha256"))


def hold_to_begun(study: Study, plan: Plan) -> None:
    """Make sure that a plan is the one that the study began with.

    Raises:
        DesignError: it isn't; says what differs.
        StoreError: the study has begun, and its databases can't be used.
    """
    with _begun(study) as store:
        if store is None or store.about("plan_sha256") == plan.sha256:
            return
        differences = "; ".join(_differences(study, store, plan))
    raise DesignError(
        f"{study.plan}: this study has begun ({study.database.name} is there), and its tasks would come out as others now: "
        f"{differences}. Put back what has changed (`{command('check', study.folder)}` names every key of study.toml that was "
        "edited, study.lock the versions), or begin a new study in another folder"
    )


def begun_amendments(study: Study) -> tuple[Amendment, ...]:
    """What came after the plan of a study that has begun; nothing before it has."""
    with _begun(study) as store:
        if store is None:
            return ()
        with store.read() as session:
            return amendments(session)


def added_names(study: Study, plan: Plan) -> frozenset[str]:
    """Sprites that came after the plan."""
    with _begun(study) as store:
        if store is None:
            return frozenset()
        with store.read() as session:
            return added_sprites(session, plan.sprites)


@contextmanager
def _begun(study: Study) -> Iterator[Store | None]:
    if not study.database.exists():
        yield None
        return
    store = Store.open(*database_urls(study.folder))
    try:
        yield store
    finally:
        store.close()


def _differences(study: Study, store: Store, plan: Plan) -> Iterator[str]:
    """What can be seen of why, from the coarse to the fine: one difference brings the finer ones along."""
    before, now = _stored(store), list(_rows(plan))
    if store.about("study") != plan.study:
        yield f"the study is called {plan.study} and was called {store.about('study')}"
    if store.about("pack_sha256") != plan.pack_sha256:
        yield f"{study.pack} was rendered anew"
    counts = _tasks(before), _tasks(now)
    arms = [arm for arm in counts[0] | counts[1] if counts[0][arm] != counts[1][arm]]
    if arms:
        yield from (f"{arm} has {counts[1][arm]} tasks and had {counts[0][arm]}" for arm in arms)
    elif [row[:-1] for row in before] != [row[:-1] for row in now]:
        yield "trials or their order are others (study.seed, [[arms]], [tasks], the pack, or a version of crowd-imi or numpy)"
    elif before != now:
        yield f"sprites have other names ({study.key}, the pack, or the version of crowd-imi)"
    else:
        yield "the tasks are the same, but the seed, the grid or the practice trials are others"


def _tasks(rows: list[Row]) -> Counter[str]:
    return Counter(arm for arm, _number in dict.fromkeys(row[:2] for row in rows))


def _stored(store: Store) -> list[Row]:
    columns = (Task.arm, Task.number, Trial.kind, Trial.unit, Trial.batch, Trial.tiles, Trial.sprite)
    with store.read() as session:
        begun = amendments(session)
    query = select(*columns).join(Trial, Trial.task_id == Task.id).order_by(Task.id, Trial.position)
    added = sum(sum(amendment.tasks.values()) for amendment in begun)
    with store.read() as session:
        count = session.scalar(select(func.count()).select_from(Task)) or 0
        return [(*row,) for row in session.execute(query.where(Task.id <= count - added))]


def _rows(plan: Plan) -> Iterator[Row]:
    for task in plan.tasks:
        for trial in task.trials:
            yield task.arm, task.number, trial.kind, trial.unit, trial.batch, trial.tiles.model_dump(mode="json"), trial.sprite

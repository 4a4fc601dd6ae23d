"""What was decided after publishing: study.toml against ``study.lock``, which the publisher wrote."""

import json
from typing import Any

import pandas as pd

from crowd_imi.files import LOCK
from crowd_imi.plan import Amendment
from crowd_imi.study import Study


def post_hoc(study: Study, visits: pd.DataFrame) -> tuple[str, ...] | None:
    """What is no longer as it was published, a sentence each.

    Args:
        study: its folder may hold ``study.lock``.
        visits: from ``store.answers.visits``: limits by which submissions were judged differ where they were changed in between.

    Returns:
        None when the study has no lock, as it wasn't published (or is a rehearsal): then nothing was fixed beforehand.
    """
    path = study.folder / LOCK
    try:
        lock: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return (f"{path.name} can't be read, so that nothing says what was published.",)
    found = []
    published = lock.get("exclusion") or {}
    for key, now in study.file.exclusion.model_dump().items():
        if key in published and published[key] != now:
            found.append(f"exclusion.{key} was {published[key]} when the study was published and is {now} now.")
    asked: dict[str, set[str]] = {}
    for checks in visits["checks"].dropna():
        for name, check in checks.items():
            asked.setdefault(name, set()).add(str(check["limit"]))
    found += [
        f"Submissions were judged by different limits of {name.replace('_', ' ')}: {'; '.join(sorted(limits))}."
        for name, limits in asked.items()
        if len(limits) > 1
    ]
    amendments = (Amendment.model_validate(content) for content in lock.get("amendments", ()))
    return (*found, *(str(amendment) for amendment in amendments if amendment.post_hoc))

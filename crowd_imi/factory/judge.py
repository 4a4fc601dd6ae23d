"""Whether people can be asked about a unit."""

import logging
from collections.abc import Mapping
from functools import cache

import numpy as np

from crowd_imi.factory.exemplars import Looks, flaw
from crowd_imi.factory.likeness import near
from crowd_imi.factory.looker import Column
from crowd_imi.factory.record import Recording
from crowd_imi.factory.units import null_of, permuted
from crowd_imi.records import Unit
from crowd_imi.study import StudyFile
from crowd_imi.vetoes import Vetoes

log = logging.getLogger(__name__)


class Judge:
    """Looks at recorded units of one model, with what persons have vetoed in mind."""

    def __init__(self, file: StudyFile, model: str, vetoes: Vetoes, refused: Mapping[Unit, str] | None = None) -> None:
        """Begin.

        Args:
            file: study.toml.
            model: whose units, as in ``[models.NAME]``.
            vetoes: of persons who looked at an earlier gallery.
            refused: units that something else speaks against, with the reason.
        """
        arms = [arm for arm in file.arms if arm.model == model]
        self._file = file
        self._difficulties = tuple(dict.fromkeys(arm.difficulty for arm in arms))
        self._with_null = any(arm.null for arm in arms)
        self._vetoes = vetoes
        self._refused = dict(refused or {})
        self.looks = cache(self._looks)

    def __call__(self, unit: Unit, recording: Recording) -> str | None:
        """Why nobody can be asked about a unit, or None; where the study has null units, its null unit must be of use too."""
        if unit.key in self._vetoes.units:
            why = self._vetoes.units[unit.key].reason
            return f"it was vetoed: {why}" if why else "it was vetoed"
        if unit in self._refused:
            return self._refused[unit]
        column = recording.column(unit)
        reason = self._flaw(unit, column, recording)
        if reason is None and self._with_null:
            null = null_of(unit)
            return self._flaw(null, permuted(column, null, self._file.study.seed), recording)
        return reason

    def _flaw(self, unit: Unit, column: Column, recording: Recording) -> str | None:
        order, looks = recording.order(unit, column), self.looks(recording)
        return flaw(column, order, looks, self._file.panels.batches, self._difficulties)

    def _looks(self, recording: Recording) -> Looks:
        """What is known of a recording's images; copies and near-duplicates of a vetoed image are vetoed with it."""
        hashes, bits = recording.hashes, self._file.panels.near_duplicate_bits
        blocked = np.zeros(len(hashes), dtype=np.bool_)
        vetoed = set(self._vetoes.images)
        for index in range(len(hashes)) if vetoed else ():
            name = recording.name(index)
            if name in vetoed:
                blocked |= near(hashes[index], hashes, bits)
                vetoed.remove(name)
        for name in sorted(vetoed):
            log.warning("vetoes.toml: there is no image %r in the set; correct its name if you meant another", name)
        return Looks(hashes=hashes, blocked=blocked, bits=bits)

"""Every error that this package raises on purpose.

    CrowdImiError
    ├── StudyError          study.toml: a wrong value, a missing key, numbers that don't fit together
    ├── VisionError         a model, a checkpoint or a layer that can't be used
    ├── FactoryError        images, recording, visualisation
    ├── PackError           a pack that is missing, damaged or of another schema
    ├── DesignError         a layout that can't be made from this pack
    ├── StoreError          a database of another schema, of another kind, or in use
    │   └── Refused         what a visit asks for isn't possible in its state
    ├── PlatformError       what a platform said no to
    ├── LedgerError         money: somebody else spends, another currency
    │   └── CapReached      paying this would go over the cap
    ├── PublishError        a study that can't be posted as it is
    ├── PagesError          the task pages can't be served
    ├── HarvestError        a submission that can't be handled
    ├── ScoringError        data that can't be scored
    └── RehearsalError      simulated participants who can't take part

A message says which thing, what is wrong with it and what to do.
"""


class CrowdImiError(Exception):
    """The root of the tree; the command line prints it as one line and exits with status 1."""


class StudyError(CrowdImiError):
    """study.toml holds something that can't work; ``problems`` names each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class VisionError(CrowdImiError):
    """A model, a checkpoint or a layer can't be used."""


class FactoryError(CrowdImiError):
    """Stimuli can't be made: images, recording or visualisation."""


class PackError(CrowdImiError):
    """A pack is missing, damaged or of another schema."""


class DesignError(CrowdImiError):
    """Tasks can't be laid out from this pack."""


class StoreError(CrowdImiError):
    """A database is of another schema, of another kind, or in use."""


class Refused(StoreError):
    """A visit asked for something that isn't possible in its state; ``reason`` is for the participant."""

    def __init__(self, reason: str, status: int = 409, code: str = "not-possible") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.code = code
        """A slug that the page's scripts tell refusals apart by."""


class PlatformError(CrowdImiError):
    """A platform said no."""


class LedgerError(CrowdImiError):
    """Money: somebody else spends at the moment, or another currency."""


class CapReached(LedgerError):
    """Paying this would go over the cap; it is held until a person raises the cap."""


class PublishError(CrowdImiError):
    """A study can't be posted as it is."""


class PagesError(CrowdImiError):
    """The task pages can't be served."""


class HarvestError(CrowdImiError):
    """A submission can't be handled."""


class ScoringError(CrowdImiError):
    """Data can't be scored."""


class RehearsalError(CrowdImiError):
    """Simulated participants can't take part."""

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
    │   ├── BadLink         an arrival link without the platform's ids
    │   │   ├── PreviewOnly a look at a task that wasn't accepted yet
    │   │   ├── MalformedLink  one whose ids aren't written as the platform writes them
    │   │   └── ForgedLink  one that nobody vouches for, or not any more
    │   ├── NoPlace         an arrival when no place is free
    │   │   └── PostingPaused  one while nobody new is let in for now
    │   ├── UnknownSubmission a submission that the platform doesn't know, or that is somebody else's
    │   └── Unreachable     a platform that gave no answer: what was asked may have been done or not
    ├── InvitationError     a list of people that can't be invited as it is
    ├── LedgerError         money: somebody else spends, another currency
    │   ├── Busy            somebody else spends, or harvests, at the moment
    │   ├── CapReached      paying this would go over the cap
    │   └── Undecidable     whether a payment arrived can't be told yet: for a person to decide
    ├── PublishError        a study that can't be posted as it is
    ├── PagesError          the task pages can't be served
    ├── HarvestError        a submission that can't be handled
    ├── ScoringError        data that can't be scored
    └── RehearsalError      simulated participants who can't take part

A message says which thing, what is wrong with it and what to do; a command that it suggests is written by ``command``.
"""

import shlex


def command(*words: object) -> str:
    """A command to suggest in a message, as a shell takes it: ``command("plan", folder)`` → ``crowd-imi plan 'my study'``."""
    return shlex.join(["crowd-imi", *map(str, words)])


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


class BadLink(PlatformError):
    """An arrival link lacks the platform's ids."""


class PreviewOnly(BadLink):
    """Somebody looks at a task on the platform without having accepted it."""


class MalformedLink(BadLink):
    """An arrival link's ids aren't written as the platform writes them: it was cut or changed on its way."""


class ForgedLink(BadLink):
    """What vouches for an arrival link doesn't: it is somebody else's, for another site, or too old."""


class NoPlace(PlatformError):
    """Somebody arrives with a good link, and no place is free, or the posting takes nobody at the moment."""


class PostingPaused(NoPlace):
    """Somebody arrives with a good link while the posting lets nobody new in for now."""


class UnknownSubmission(PlatformError):
    """The platform knows of no such submission, or it is somebody else's than was said."""


class Unreachable(PlatformError):
    """A platform gave no answer in a bounded number of tries: what was asked of it may have been done or not."""


class InvitationError(CrowdImiError):
    """A list of people can't be read, or they can't be invited to this study."""


class LedgerError(CrowdImiError):
    """Money: somebody else spends at the moment, or another currency."""


class Busy(LedgerError):
    """Somebody else spends, or harvests, at the moment."""


class CapReached(LedgerError):
    """Paying this would go over the cap; it is held until a person raises the cap."""


class Undecidable(LedgerError):
    """Whether a payment arrived can't be told yet; nothing is sent again before it can, or a person says so."""


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

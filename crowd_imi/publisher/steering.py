"""``pause``, ``resume`` and ``stop``: whether new participants are let in. Who is under way may always finish."""

from crowd_imi.errors import PlatformError, PublishError, command
from crowd_imi.ledger import lease
from crowd_imi.platforms.base import Capability, Platform, PostingState
from crowd_imi.stock import posting_state
from crowd_imi.store import Store
from crowd_imi.store.postings import note_state, postings
from crowd_imi.store.tables import Posting
from crowd_imi.study import Study


def steer(study: Study, store: Store, platform: Platform, wanted: PostingState) -> bool:
    """Bring the study's posting, and its pilot's, to a state; doing it again changes nothing.

    Returns:
        Whether it was in another state before.

    Raises:
        PublishError: nothing is posted, or it was stopped, which is for good.
        PlatformError: the platform can't do that, or said no.
        LedgerError: somebody else spends at the moment.
    """
    with lease(store, str(wanted), study.file.pay.cap_money):
        states = {posting: posting_state(store, platform, posting) for posting in _posted(study, store, platform)}
        going = {posting: now for posting, now in states.items() if now is not PostingState.STOPPED}
        if not going and wanted is not PostingState.STOPPED:
            raise PublishError(f"{study.file.study.name} was stopped on {platform.name}, which is for good; publish a new study")
        # What was stopped on the platform is noted here too.
        for posting in going if wanted is not PostingState.STOPPED else states:
            platform_id = str(posting.platform_id)
            if platform.state(platform_id) is not wanted:
                _tell(platform, platform_id, wanted)
            with store.write() as session:
                note_state(session, posting.id, wanted.value, by_the_platform=False)
    return any(now is not wanted for now in going.values())


def _posted(study: Study, store: Store, platform: Platform) -> list[Posting]:
    """The study's posting and its pilot's, as far as they are there."""
    with store.read() as session:
        found = [posting for posting in postings(session) if posting.platform == platform.name and posting.platform_id]
    if not found:
        raise PublishError(f"{study.folder}: nothing is posted on {platform.name} yet; run `{command('publish', study.folder)}`")
    return found


def _tell(platform: Platform, platform_id: str, wanted: PostingState) -> None:
    if wanted is PostingState.STOPPED:
        platform.stop(platform_id)
        return
    if Capability.PAUSE not in platform.capabilities:
        raise PlatformError(f"{platform.name} can't pause a study; `crowd-imi stop` ends it for good")
    if wanted is PostingState.PAUSED:
        platform.pause(platform_id)
    else:
        platform.resume(platform_id)

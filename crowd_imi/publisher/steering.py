"""``pause``, ``resume`` and ``stop``: whether new participants are let in. Who is under way may always finish."""

from crowd_imi.errors import PlatformError, PublishError, command
from crowd_imi.ledger import lease
from crowd_imi.platforms.base import Capability, Platform, PostingState
from crowd_imi.store import Store
from crowd_imi.store.postings import postings
from crowd_imi.store.tables import Posting
from crowd_imi.study import Study


def steer(study: Study, store: Store, platform: Platform, wanted: PostingState) -> bool:
    """Bring the study's posting to a state; doing it again changes nothing.

    Returns:
        Whether it was in another state before.

    Raises:
        PublishError: nothing is posted, or it was stopped, which is for good.
        PlatformError: the platform can't do that, or said no.
        LedgerError: somebody else spends at the moment.
    """
    with lease(store, str(wanted), study.file.pay.cap_money):
        posting, platform_id = _posted(study, store, platform)
        now = PostingState.STOPPED if posting.state == PostingState.STOPPED else platform.state(platform_id)
        if now is PostingState.STOPPED and wanted is not PostingState.STOPPED:
            raise PublishError(f"{study.file.study.name} was stopped on {platform.name}, which is for good; publish a new study")
        if platform.state(platform_id) is not wanted:
            _tell(platform, platform_id, wanted)
        with store.write() as session:
            session.get_one(Posting, posting.id).state = wanted.value
    return now is not wanted


def _posted(study: Study, store: Store, platform: Platform) -> tuple[Posting, str]:
    with store.read() as session:
        found = [posting for posting in postings(session) if posting.platform == platform.name]
    if not found or found[0].platform_id is None:
        raise PublishError(f"{study.folder}: nothing is posted on {platform.name} yet; run `{command('publish', study.folder)}`")
    return found[0], found[0].platform_id


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

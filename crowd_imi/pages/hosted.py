"""Where browsers get sprites: from these pages, or from where ``crowd-imi host`` put them."""

from crowd_imi.errors import PagesError, command
from crowd_imi.hosted import hosted_path, load_hosted, origin_of
from crowd_imi.plan import Plan
from crowd_imi.platforms.opening import choice_of
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tasks import added_sprites
from crowd_imi.study import Study

OWN = "/sprites/"
"""The pages' own address of sprites, which answers also while they are hosted."""


def sprite_addresses(study: Study, store: Store, plan: Plan) -> str:
    """What stands before a sprite's name in its address, the same for every sprite.

    Rehearsals and previews get theirs from the pages: they have other addresses than the one that the storage lets read.

    Raises:
        PagesError: what is hosted is for pages at another address, or lacks sprites.
        PublishError: the note of it is damaged.
    """
    hosted = load_hosted(study) if store.kind is StoreKind.STUDY else None
    if hosted is None or not hosted.complete:
        return OWN
    again = f"run `{command('host', study.folder)}` again, or `{command('unhost', study.folder)}`"
    if not plan.sprites <= set(hosted.names):
        raise PagesError(f"{hosted_path(study)}: the tasks were planned anew since the sprites were hosted; {again}")
    with store.read() as session:
        added = added_sprites(session, plan.sprites)
    if not added <= set(hosted.names):  # those of tasks that come while this runs are hosted before the tasks are there
        raise PagesError(f"{hosted_path(study)}: tasks came after the plan whose sprites aren't hosted; {again}")
    pages_url = choice_of(store).pages_url
    if hosted.origin != origin_of(pages_url):
        raise PagesError(
            f"{hosted_path(study)}: the storage lets pages at {hosted.origin} read the sprites, but participants are sent to "
            f"{pages_url}; {again}"
        )
    return hosted.public_url

"""The pack that the answers are about, where it is still there: scoring does without it, and then says less."""

from crowd_imi.errors import PackError
from crowd_imi.pack import Pack
from crowd_imi.scoring.mis import LayerOrder
from crowd_imi.store import Store
from crowd_imi.store.tasks import amendments
from crowd_imi.study import Study


def open_pack(study: Study, store: Store) -> tuple[Pack | None, str]:
    """The pack that the store's answers are about, or why there is none: the report does without its pictures."""
    try:
        pack = Pack(study.pack)
    except PackError as error:
        return None, str(error)
    if pack.digest != store.about("pack_sha256"):
        return None, f"{study.pack}: this isn't the pack that participants saw: its digest has changed"
    with store.read() as session:
        anew = [amendment.name for amendment in amendments(session) if amendment.panels_sha256 is not None]
    try:
        pack.manifest = pack.shown(anew)
    except PackError as error:
        return None, str(error)
    return pack, ""


def layer_order(study: Study, store: Store) -> LayerOrder:
    """Each model's layers in the order of the network's modules, as far as the pack says."""
    pack, _problem = open_pack(study, store)
    return {} if pack is None else {name: model.layers for name, model in pack.manifest.models.items()}

"""``vetoes.toml``: images and units that a person doesn't want anybody to see. ``render`` takes others in their place.

The file may be edited by hand; ``crowd-imi gallery STUDY --veto …`` writes it.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from crowd_imi.errors import FactoryError, command
from crowd_imi.files import write_atomically
from crowd_imi.pack import Manifest, Pack
from crowd_imi.records import Record
from crowd_imi.study import Study

PREFIX = 8
"""So many characters of an image's SHA-256 are needed at least to name it."""

_HEAD = """\
# Images and units that nobody shall see: `crowd-imi render` takes the next ones in their place.
# Written by `crowd-imi gallery STUDY --veto …`; may be edited by hand. An image is known by its name below the image folder.
schema = 1
"""


class ImageVeto(Record):
    """``[images."NAME"]``, the image's name below the image folder."""

    sha256: str = ""
    """Of the stored image that was vetoed."""
    reason: str = ""


class UnitVeto(Record):
    """``[units."MODEL/LAYER/CHANNEL"]``."""

    reason: str = ""


class Vetoes(Record):
    """vetoes.toml."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    images: dict[str, ImageVeto] = Field(default_factory=dict)
    """By name."""
    units: dict[Annotated[str, Field(pattern=r"^[^/]+/.+/\d+$")], UnitVeto] = Field(default_factory=dict)
    """By key."""

    def still_shown(self, manifest: Manifest) -> tuple[str, ...]:
        """Names of images and keys of units that are vetoed and that a pack shows all the same: it was rendered before."""
        natural, keys = manifest.natural(), _unit_keys(manifest)
        names = sorted({natural[digest] for digest in self.images_shown(manifest)})
        return (*names, *(unit for unit in self.units if unit in keys))

    def images_shown(self, manifest: Manifest) -> frozenset[str]:
        """SHA-256 of the stored images that are vetoed, by their own name or as a copy under another one."""
        digests = {veto.sha256.lower() for veto in self.images.values()}
        return frozenset(
            digest for digest, name in manifest.natural().items() if name in self.images or digest.lower() in digests
        )


def vetoes_path(study: Study) -> Path:
    """Where vetoes stand."""
    return study.folder / "vetoes.toml"


def load_vetoes(study: Study) -> Vetoes:
    """A study's vetoes; without a file there are none.

    Raises:
        FactoryError: the file is damaged.
    """
    path = vetoes_path(study)
    try:
        return Vetoes.model_validate(tomllib.loads(path.read_bytes().decode()))
    except FileNotFoundError:
        return Vetoes()
    except IsADirectoryError:
        raise FactoryError(f"{path}: this is a folder; take it away, and veto anew") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FactoryError(f"{path}: this is no TOML ({error}); mend that place, or delete the file and veto anew") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FactoryError(f"{path}: {where}: {first['msg']}; correct it, or delete the file and veto anew") from None


def vetoed_but_shown(study: Study, pack: Pack, anew: Iterable[str] = ()) -> str | None:
    """That a pack shows what was vetoed after it was rendered, and what to do; None when it doesn't.

    Args:
        study: whose vetoes.
        pack: its pack.
        anew: names of the amendments that made panels anew.

    Raises:
        FactoryError: vetoes.toml is damaged.
        PackError: panels that were made anew are missing or damaged.
    """
    still = load_vetoes(study).still_shown(pack.shown(anew))
    if not still:
        return None
    named = f"{', '.join(still[:3])}{' …' if len(still) > 3 else ''}"
    return f"{study.pack}: it still shows what was vetoed ({named}); run `{command('render', study.folder)}` again and look again"


def change_vetoes(  # noqa: PLR0913 (one per option)
    study: Study,
    *,
    images: Sequence[str] = (),
    units: Sequence[str] = (),
    lift: Sequence[str] = (),
    reason: str = "",
    voiding: bool = False,
) -> Vetoes:
    """Veto images and units of the study's pack, or lift vetoes; all of it or, when one thing is wrong, nothing.

    Args:
        study: whose pack was looked through.
        images: beginnings of their SHA-256, of at least 8 characters.
        units: ``model/layer/channel``.
        lift: vetoes to lift: the beginning of an image's SHA-256, an image's name, or a unit.
        reason: why, for all that is vetoed now.
        voiding: the panels that show it are about to be made anew, so it may be vetoed after publishing too.

    Raises:
        FactoryError: something isn't in the pack or among the vetoes, or the study has begun; one line for each.
        PackError: there is no pack.
    """
    if study.database.exists() and not voiding:
        raise FactoryError(
            f"{study.database}: this study has begun, and answers are about the pack as it is, so nothing can be vetoed by "
            f"itself any more; make the panels that show it anew with `{command('void', study.folder)}`, or begin a new study in "
            f"another folder (copy study.toml and {vetoes_path(study).name}) and veto there"
        )
    vetoes = load_vetoes(study)
    problems: list[str] = []
    kept = _lifted(vetoes, lift, problems)
    if images or units:
        manifest = Pack(study.pack).manifest
        kept = Vetoes(
            images={**kept.images, **dict(_found_images(manifest, images, reason, problems))},
            units={**kept.units, **dict(_found_units(manifest, units, reason, problems))},
        )
    if problems:
        raise FactoryError("\n".join(problems))
    if kept != vetoes:
        write_atomically(vetoes_path(study), _toml(kept).encode())
    return kept


def _found_images(
    manifest: Manifest, prefixes: Iterable[str], reason: str, problems: list[str]
) -> Iterator[tuple[str, ImageVeto]]:
    natural = manifest.natural()
    for prefix in prefixes:
        found = [digest for digest in manifest.sources if digest.startswith(prefix.lower())]
        if len(prefix) < PREFIX:
            problems.append(
                f"--veto {prefix}: at least {PREFIX} characters of the image's SHA-256 are needed; the gallery shows them"
            )
        elif not found:
            problems.append(f"--veto {prefix}: the pack has no image whose SHA-256 begins so; copy it from the gallery")
        elif len(found) > 1:
            problems.append(f"--veto {prefix}: {len(found)} images of the pack begin so; give more characters")
        elif found[0] not in natural:
            problems.append(
                f"--veto {prefix}: this is a {manifest.sources[found[0]]}, and a visualisation can't be left out alone; veto its "
                "unit with --veto-unit"
            )
        else:
            yield natural[found[0]], ImageVeto(sha256=found[0], reason=reason)


def _found_units(manifest: Manifest, keys: Iterable[str], reason: str, problems: list[str]) -> Iterator[tuple[str, UnitVeto]]:
    known = _unit_keys(manifest)
    for key in keys:
        if key in known:
            yield key, UnitVeto(reason=reason)
        elif key.endswith("~null"):
            problems.append(
                f"--veto-unit {key}: a null unit goes with the unit that it is made of; veto {key.removesuffix('~null')}"
            )
        else:
            problems.append(f"--veto-unit {key}: the pack has no such unit; copy it from the gallery (model/layer/channel)")


def _lifted(vetoes: Vetoes, lift: Iterable[str], problems: list[str]) -> Vetoes:
    images, units = dict(vetoes.images), dict(vetoes.units)
    for named in lift:
        of_images = [name for name, veto in images.items() if named == name or _begins(veto.sha256, named)]
        if named in units:
            del units[named]
        elif len(of_images) == 1:
            del images[of_images[0]]
        elif of_images:
            problems.append(f"--unveto {named}: {len(of_images)} vetoed images begin so; give more characters")
        else:
            problems.append(f"--unveto {named}: nothing of this name is vetoed; vetoes.toml lists what is")
    return Vetoes(images=images, units=units)


def _begins(sha256: str, prefix: str) -> bool:
    return len(prefix) >= PREFIX and sha256.startswith(prefix.lower())


def _unit_keys(manifest: Manifest) -> frozenset[str]:
    """Of the real units."""
    units = (entry.unit for arm in manifest.arms for entry in arm.units)
    return frozenset(unit.key for unit in units if not unit.null)


def _toml(vetoes: Vetoes) -> str:
    content = vetoes.model_dump(include={"images", "units"})
    written = (
        f"\n[{table}.{_string(name)}]\n" + "".join(f"{key} = {_string(value)}\n" for key, value in fields.items() if value)
        for table, entries in content.items()
        for name, fields in entries.items()
    )
    return _HEAD + "".join(written)


def _string(value: str) -> str:
    """A TOML string; JSON's escapes are TOML's, but for the one control character that JSON lets through."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

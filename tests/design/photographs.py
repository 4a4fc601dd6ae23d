"""A pack like a real one: natural arms show crops of scikit-image's photographs, synthetic ones smooth coloured textures."""

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import skimage.data
from PIL import Image

from crowd_imi.files import write_atomically
from crowd_imi.pack import ArmPack, Manifest, ModelProvenance, Pack, UnitPanels, image_path, manifest_bytes
from crowd_imi.records import REFERENCES, Exemplar, Panel, SidePair, Unit
from crowd_imi.seeds import generator
from crowd_imi.study import ArmSection, Study

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry", "camera")
EXTREMES = 8


def write_photo_pack(study: Study) -> Pack:
    """Write the study's pack; no image is used twice."""
    pictures = _Pictures(study)
    arms = tuple(
        ArmPack(
            arm=arm.id,
            model=arm.model,
            condition=arm.condition,
            difficulty=arm.difficulty,
            units=tuple(_unit(study, arm, index, pictures) for index in range(arm.units + arm.null)),
        )
        for arm in study.file.arms
    )
    manifest = Manifest(
        study=study.file.study.name,
        seed=study.file.study.seed,
        image_size=study.file.panels.image_size,
        image_count=5000,
        image_set_sha256="0" * 64,
        licence="CC0",
        provenance="scikit-image",
        unreadable=(),
        replacements=(),
        models={"toy": ModelProvenance(source="timm:resnet10t", weights_sha256="0" * 64, input_size=64)},
        versions={},
        sources=pictures.sources,
        arms=arms,
    )
    write_atomically(study.pack / "manifest.json", manifest_bytes(manifest))
    return Pack(study.pack)


def _unit(study: Study, arm: ArmSection, index: int, pictures: "_Pictures") -> UnitPanels:
    null = index >= arm.units
    ranks = iter(range(5000))

    def natural(count: int) -> tuple[Exemplar, ...]:
        return tuple(pictures.add(next(pictures.crops), next(ranks)) for _ in range(count))

    def visualised() -> tuple[Exemplar, ...]:
        return tuple(pictures.add(next(pictures.textures), None) for _ in range(REFERENCES))

    shared = SidePair(min=visualised(), max=visualised()) if arm.condition == "synthetic" else None
    panels = []
    for batch in range(study.file.panels.batches):
        references = shared or SidePair(min=natural(REFERENCES), max=natural(REFERENCES))
        panels.append(Panel(batch=batch, references=references, queries=SidePair(min=natural(1)[0], max=natural(1)[0])))
    return UnitPanels(
        unit=Unit(model=arm.model, layer=f"layer{index % 3}", channel=index, null=null),
        panels=tuple(panels),
        extremes=SidePair(min=natural(EXTREMES), max=natural(EXTREMES)),
        activation_range=SidePair(min=-1.0, max=1.0),
    )


class _Pictures:
    def __init__(self, study: Study) -> None:
        self.pack = study.pack
        self.size = study.file.panels.image_size
        self.rng = generator(study.file.study.seed, "photo pack")
        self.sources: dict[str, str] = {}
        self.crops = self._crops()
        self.textures = self._textures()

    def add(self, picture: Image.Image, rank: int | None) -> Exemplar:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = image_path(self.pack, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        self.sources[digest] = f"{len(self.sources)}.png"
        return Exemplar(image=digest, rank=rank, activation=None if rank is None else float(rank))

    def _crops(self) -> Iterator[Image.Image]:
        """Crops of 1–2 times the stored size that show something."""
        photographs = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS]
        while True:
            photograph = photographs[self.rng.integers(len(photographs))]
            side = int(self.rng.integers(self.size, min(2 * self.size, *photograph.size) + 1))
            left = int(self.rng.integers(photograph.width - side + 1))
            top = int(self.rng.integers(photograph.height - side + 1))
            crop = photograph.crop((left, top, left + side, top + side)).resize((self.size, self.size), Image.Resampling.LANCZOS)
            if np.asarray(crop.convert("L")).std() > 8:
                yield crop

    def _textures(self) -> Iterator[Image.Image]:
        """Noise whose amplitude falls with frequency, in correlated colours, as feature visualisations begin."""
        down, across = np.fft.fftfreq(self.size)[:, None], np.fft.rfftfreq(self.size)[None]
        scale = np.maximum(np.hypot(down, across), 1 / self.size) ** -1.2
        colours = np.array([[0.56, 0.19, 0.04], [0.58, 0.0, -0.11], [0.58, -0.19, 0.06]])
        while True:
            spectrum = (self.rng.normal(size=(3, *scale.shape)) + 1j * self.rng.normal(size=(3, *scale.shape))) * scale
            channels = np.fft.irfft2(spectrum, s=(self.size, self.size))
            mixed = np.einsum("ij,jhw->hwi", colours, channels / channels.std())
            yield Image.fromarray((255 / (1 + np.exp(-1.5 * mixed))).astype(np.uint8))

"""Writes docs/images/visualisations.jpg: lucent's images and ours, for the same units of the demo's trained network.

    python -m docs.contact_sheet DEMO

DEMO is a folder in which `crowd-imi demo` has run, or an empty one, where its network is then trained. It takes some minutes on
2 cores: lucent's diversity compares Gram matrices of channels × channels pair by pair, so units of wide layers are left out. Each
row is one side of one unit; the four images on the left are plain lucent's, those on the right ours, with the same settings, the
strongest first.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.render import Demo
from crowd_imi.factory.visualize import Visualisations
from crowd_imi.study import VisualisationSection

UNITS = 4
SHOWN = 4
LAYERS = ("layer2.0.conv*", "layer3.0.conv*")
"""At most 256 channels: with 512 a step of lucent takes seconds."""
TILE, GAP, LABEL = 96, 4, 18
SETTINGS = VisualisationSection(procedure="fixed", size=64, steps=64, diversity=0.1)
PATH = Path(__file__).parent / "images" / "visualisations.jpg"


def main() -> None:
    """Visualise and draw."""
    demo = Demo.trained(Path(sys.argv[1]), UNITS, LAYERS, SETTINGS.size)
    lucents, ours = (demo.made(SETTINGS, engine=engine) for engine in ("lucent", "batched"))
    width = 2 * SHOWN * (TILE + GAP) + 3 * GAP
    row = TILE + GAP + LABEL
    sheet = Image.new("RGB", (width, len(ours) * row + LABEL + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), "plain lucent", fill="black")
    draw.text((width // 2 + GAP, GAP), "ours", fill="black")
    for number, (target, lucent, our) in enumerate(zip(demo.targets, lucents, ours, strict=True)):
        top = LABEL + GAP + number * row
        for half, made in enumerate((lucent, our)):
            left = GAP + half * width // 2
            _paste(sheet, made, left, top + LABEL)
            draw.text((left, top + 4), f"{target.name}: {_told(made, target.best)}", fill="black")
    sheet.save(PATH, quality=88)
    sys.stdout.write(f"{PATH}: {PATH.stat().st_size / 1000:.0f} KB\n")


def _told(made: Visualisations, best: float | None) -> str:
    return f"{np.mean(made.activations):.1f} on average; a photograph {best:.1f}; alike {made.alike:.2f}"


def _paste(sheet: Image.Image, made: Visualisations, left: int, top: int) -> None:
    for place, pixels in enumerate(made.pixels[:SHOWN]):
        sheet.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC), (left + place * (TILE + GAP), top))


if __name__ == "__main__":
    main()

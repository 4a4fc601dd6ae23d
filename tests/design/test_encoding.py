import base64
import io

import numpy as np
import pytest
from PIL import Image

from crowd_imi.design.encoding import QUALITIES, compose, encode, encode_alike, fill_up, grid_for
from crowd_imi.design.fidelity import MIN_PSNR, cut, decode, tile_psnr

GRID = grid_for(32)


def smooth(seed: int, *, roughness: float = 2.0) -> np.ndarray:
    """Twenty tiles of blurred noise."""
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(20):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        tiles.append(np.clip(np.asarray(coarse) + rng.normal(0, roughness, (32, 32, 3)), 0, 255).astype(np.uint8))
    return np.stack(tiles)


def boxes(content: bytes, start: int = 0, end: int | None = None) -> dict[str, bytes]:
    found = {}
    end = len(content) if end is None else end
    while start < end:
        length = int.from_bytes(content[start : start + 4])
        found[content[start + 4 : start + 8].decode()] = content[start + 8 : start + length]
        start += length
    return found


def configuration(content: bytes) -> bytes:
    """The payload of av1C, the decoder's configuration."""
    where = content.index(b"av1C")
    return content[where + 4 : where + 8]


def test_cutting_is_the_reverse_of_composing():
    tiles = smooth(1)
    assert (cut(compose(tiles, GRID), GRID) == tiles).all()


def test_a_canvas_has_a_grey_gutter_around_every_tile():
    canvas = compose(np.zeros((20, 32, 32, 3), dtype=np.uint8), GRID)
    # 5 × 32 + 6 × 16 across, 4 × 32 + 5 × 16 down.
    assert canvas.shape == (208, 256, 3)
    assert (canvas == 128).all(axis=2).sum() == 208 * 256 - 20 * 32 * 32


def test_every_tile_keeps_38_decibels_and_one_level_less_would_not():
    sprites = [smooth(seed, roughness=4 * seed) for seed in range(1, 4)]
    files = encode_alike(sprites, GRID)
    worst = [min(tile_psnr(decode(file, GRID), tiles)) for file, tiles in zip(files, sprites, strict=True)]
    assert min(worst) >= MIN_PSNR
    level = next(i for i in range(64) if files[0].startswith(encode(compose(sprites[0], GRID), GRID, i)))
    assert all(file.startswith(encode(compose(s, GRID), GRID, level)) for file, s in zip(files, sprites, strict=True))
    coarser = [decode(encode(compose(tiles, GRID), GRID, level - 1), GRID) for tiles in sprites]
    assert min(min(tile_psnr(decoded, tiles)) for decoded, tiles in zip(coarser, sprites, strict=True)) < MIN_PSNR


def test_noise_keeps_38_decibels_too():
    noise = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    (file,) = encode_alike([noise], GRID)
    assert min(tile_psnr(decode(file, GRID), noise)) >= MIN_PSNR


def test_the_top_quality_loses_less_than_two_levels_even_on_noise():
    noise = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    decoded = decode(encode(compose(noise, GRID), GRID, len(QUALITIES) - 1), GRID)
    assert np.abs(decoded.astype(int) - noise).max() <= 3
    assert min(tile_psnr(decoded, noise)) > 44


def test_the_files_of_a_task_have_one_size_and_headers_that_tell_nothing():
    files = encode_alike([smooth(1, roughness=0), smooth(2, roughness=12)], GRID)
    assert len({len(file) for file in files}) == 1
    parsed = [boxes(file) for file in files]
    assert [list(found) for found in parsed] == [["ftyp", "meta", "mdat", "free"]] * 2
    assert parsed[0]["ftyp"] == parsed[1]["ftyp"]
    # Behind version and flags, meta's boxes differ in nothing but iloc, which says how long the picture's data is.
    inner = [boxes(found["meta"], 4) for found in parsed]
    assert {name for name in inner[0] if inner[0][name] != inner[1][name]} == {"iloc"}


def test_colour_keeps_full_resolution():
    (file,) = encode_alike([smooth(1)], GRID)
    # Third byte of av1C: tier, high bit depth, twelve bit, monochrome, subsampling x, subsampling y, position.
    assert configuration(file)[2] & 0b0001_1100 == 0


def test_a_sprite_carries_no_metadata():
    (file,) = encode_alike([smooth(1)], GRID)
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "AVIF" and image.size == (256, 208)
        assert not {"exif", "xmp", "icc_profile"} & set(image.info)


def test_the_same_tiles_give_the_same_bytes():
    sprites = [smooth(1), smooth(2)]
    assert encode_alike(sprites, GRID) == encode_alike(sprites, GRID)


def test_a_free_box_fills_up_to_the_byte():
    file = encode(compose(smooth(1), GRID), GRID, 40)
    for more in (8, 9, 1000):
        filled = fill_up(file, len(file) + more)
        assert len(filled) == len(file) + more
        assert (decode(filled, GRID) == decode(file, GRID)).all()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_chromium_decodes_a_filled_up_sprite_with_every_tile_at_38_decibels(page):
    sprites = [smooth(1, roughness=0), smooth(2, roughness=8)]
    for tiles, file in zip(sprites, encode_alike(sprites, GRID), strict=True):
        assert b"free" in file
        levels = page.evaluate(
            """async (source) => {
                const image = new Image();
                image.src = source;
                await image.decode();
                const canvas = document.createElement("canvas");
                canvas.width = image.naturalWidth;
                canvas.height = image.naturalHeight;
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                return [canvas.width, canvas.height, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];
            }""",
            "data:image/avif;base64," + base64.b64encode(file).decode(),
        )
        width, height, data = levels
        seen = np.array(data, dtype=np.uint8).reshape(height, width, 4)[..., :3]
        assert min(tile_psnr(cut(seen, GRID), tiles)) >= MIN_PSNR - 0.1

import base64
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from crowd_imi.design.avif_grid import children
from crowd_imi.design.encoding import QUALITIES, encode, encode_tile, fill_up, grid_for, join_alike, with_gutter
from crowd_imi.design.fidelity import cut, decode, min_psnr, tile_psnr

GRID = grid_for(32)
LEAST = min_psnr(GRID.tile)


def smooth(seed: int, *, roughness: float = 2.0) -> np.ndarray:
    """Twenty tiles of blurred noise."""
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(20):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        tiles.append(np.clip(np.asarray(coarse) + rng.normal(0, roughness, (32, 32, 3)), 0, 255).astype(np.uint8))
    return np.stack(tiles)


def encode_alike(sprites: Sequence[np.ndarray]) -> list[bytes]:
    return join_alike([[encode_tile(tile, GRID) for tile in tiles] for tiles in sprites], GRID)


def configuration(content: bytes) -> bytes:
    """The payload of av1C, the decoder's configuration."""
    where = content.index(b"av1C")
    return content[where + 4 : where + 8]


def test_small_tiles_keep_more_decibels():
    assert [min_psnr(side) for side in (32, 127, 128, 224)] == [44, 44, 38, 38]


def test_a_cell_is_a_tile_with_grey_left_of_it_and_above_it():
    # The smallest cell that decoders take in a grid has 64 pixels, so a tile of 32 has 32 beside it.
    assert GRID.gutter == 32 and grid_for(64).gutter == 16
    cell = with_gutter(np.zeros((32, 32, 3), dtype=np.uint8), GRID)
    assert cell.shape == (64, 64, 3)
    assert (cell == 128).all(axis=2).sum() == 64 * 64 - 32 * 32
    assert (cell[32:, 32:] == 0).all()


def test_every_tile_keeps_its_decibels_and_one_level_less_would_not():
    for tile in smooth(1, roughness=4)[:5]:
        file = encode_tile(tile, GRID)
        level = next(level for level in range(64) if encode(with_gutter(tile, GRID), GRID, level) == file)
        assert tile_psnr(_decoded(file), tile[None])[0] >= LEAST
        assert tile_psnr(_decoded(encode(with_gutter(tile, GRID), GRID, level - 1)), tile[None])[0] < LEAST


def _decoded(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))[None, GRID.gutter :, GRID.gutter :]


def test_a_sprite_shows_every_tile_where_the_grid_says_exactly_as_it_was_encoded():
    tiles = smooth(1, roughness=8)
    (file,) = encode_alike([tiles])
    decoded = decode(file, GRID)
    assert min(tile_psnr(decoded, tiles)) >= LEAST
    for shown, tile in zip(decoded, tiles, strict=True):
        assert (shown == _decoded(encode_tile(tile, GRID))[0]).all()


def test_a_hard_tile_costs_the_others_nothing():
    easy = smooth(1, roughness=0)
    hard = easy.copy()
    hard[7] = smooth(2, roughness=40)[7]
    (plain,), (mixed,) = encode_alike([easy]), encode_alike([hard])
    more = len(encode_tile(hard[7], GRID)) - len(encode_tile(easy[7], GRID))
    assert len(mixed) - len(plain) == more > 0


def test_noise_keeps_its_decibels_too():
    noise = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    (file,) = encode_alike([noise])
    assert min(tile_psnr(decode(file, GRID), noise)) >= LEAST


def test_a_tile_of_one_colour_is_encoded_without_loss_or_nearly():
    flat = np.full((32, 32, 3), (200, 30, 90), dtype=np.uint8)
    assert tile_psnr(_decoded(encode_tile(flat, GRID)), flat[None])[0] >= LEAST


def test_the_top_quality_loses_less_than_two_levels_even_on_noise():
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    decoded = _decoded(encode(with_gutter(noise, GRID), GRID, len(QUALITIES) - 1))
    assert np.abs(decoded.astype(int) - noise).max() <= 3
    assert tile_psnr(decoded, noise[None])[0] > 44


def test_the_files_of_a_task_have_one_size_and_headers_that_tell_nothing():
    files = encode_alike([smooth(1, roughness=0), smooth(2, roughness=12)])
    assert len({len(file) for file in files}) == 1
    parsed = [children(file) for file in files]
    assert [list(found) for found in parsed] == [[b"ftyp", b"meta", b"mdat", b"free"]] * 2
    assert parsed[0][b"ftyp"] == parsed[1][b"ftyp"]
    # Behind version and flags, meta's boxes differ in nothing but iloc, which says how long each tile's data is.
    inner = [children(found[b"meta"][4:]) for found in parsed]
    assert {name for name in inner[0] if inner[0][name] != inner[1][name]} == {b"iloc"}


def test_colour_keeps_full_resolution():
    (file,) = encode_alike([smooth(1)])
    # Third byte of av1C: tier, high bit depth, twelve bit, monochrome, subsampling x, subsampling y, position.
    assert configuration(file)[2] & 0b0001_1100 == 0


def test_a_sprite_carries_no_metadata():
    (file,) = encode_alike([smooth(1)])
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "AVIF" and image.size == (320, 256)  # 5 × 64 across, 4 × 64 down
        assert not {"exif", "xmp", "icc_profile"} & set(image.info)


def test_the_same_tiles_give_the_same_bytes():
    sprites = [smooth(1), smooth(2)]
    assert encode_alike(sprites) == encode_alike(sprites)


def test_a_free_box_fills_up_to_the_byte():
    (file,) = encode_alike([smooth(1)])
    for more in (8, 9, 1000):
        filled = fill_up(file, len(file) + more)
        assert len(filled) == len(file) + more
        assert (decode(filled, GRID) == decode(file, GRID)).all()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_chromium_decodes_a_filled_up_sprite_with_every_tiles_decibels(page):
    sprites = [smooth(1, roughness=0), smooth(2, roughness=8)]
    for tiles, file in zip(sprites, encode_alike(sprites), strict=True):
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
        assert min(tile_psnr(cut(seen, GRID), tiles)) >= LEAST - 0.1

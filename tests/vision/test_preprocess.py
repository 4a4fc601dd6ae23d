import numpy as np
import pytest
from PIL import ExifTags, Image

from crowd_imi.errors import VisionError
from crowd_imi.study import ModelSection
from crowd_imi.vision.models import load_model
from crowd_imi.vision.preprocess import read_image, to_input


def pixels(width, height, mode="RGB"):
    channels = len(mode)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[..., 0] if channels == 1 else values


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_an_image_of_the_stored_size_stays_as_it_is(tmp_path):
    array = pixels(64, 64)
    assert np.array_equal(read_image(save(tmp_path / "a.png", array), 64), array)


def test_a_large_image_gives_the_central_seven_eighths_of_its_shorter_side(tmp_path):
    # 512 × 256 at 224: the shorter side of 256 needs no scaling (256/224 of 224), and 16 px are cut off above and below.
    array = pixels(512, 256)
    read = read_image(save(tmp_path / "a.png", array), 224)
    assert np.array_equal(read, array[16:240, 144:368])


def test_an_image_of_less_gives_its_whole_shorter_side(tmp_path):
    read = read_image(save(tmp_path / "a.png", pixels(90, 60)), 64)
    assert read.shape == (64, 64, 3)


def test_grey_and_transparent_images_become_rgb_on_white(tmp_path):
    assert read_image(save(tmp_path / "grey.png", pixels(64, 64, "L")), 64).shape == (64, 64, 3)
    clear = np.zeros((64, 64, 4), dtype=np.uint8)
    assert (read_image(save(tmp_path / "clear.png", clear), 64) == 255).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(VisionError, match=r"bad\.png: this image can't be read"):
        read_image(tmp_path / "bad.png", 64)


def test_a_truncated_image_is_named(tmp_path):
    path = save(tmp_path / "half.png", pixels(64, 64))
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(VisionError, match=r"half\.png"):
        read_image(path, 64)


def test_a_photograph_with_a_damaged_byte_in_its_exif_is_named(tmp_path):
    path = tmp_path / "damaged.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # so that the image is turned, and its EXIF data written anew
    exif[ExifTags.Base.Software] = "a camera"
    Image.fromarray(pixels(64, 64)).save(path, exif=exif)
    # The software's tag 0x0131, a text, becomes 0x0100, the width, of which Pillow then says "struct.error".
    path.write_bytes(path.read_bytes().replace(b"\x01\x31\x00\x02", b"\x01\x00\x00\x02", 1))
    with pytest.raises(VisionError, match=r"damaged\.jpg: this image can't be read"):
        read_image(path, 64)


def test_input_is_normalised_and_of_the_models_size(tmp_path):
    model = load_model(ModelSection(source="timm:test_resnet", layers=("conv1",), input_size=32), tmp_path, 1)
    white = to_input(np.full((2, 64, 64, 3), 255, dtype=np.uint8), model)
    # (1 − 0.5) / 0.5 = 1
    assert white.shape == (2, 3, 32, 32)
    assert white.min().item() == pytest.approx(1) and white.max().item() == pytest.approx(1)

import pytest

from crowd_imi.errors import FactoryError
from crowd_imi.factory.images import study_images
from tests.factory.conftest import STUDY_TOML, write_pictures
from tests.tiny import write_study


def test_too_few_images_say_how_many_are_needed(tmp_path):
    study = write_study(tmp_path, STUDY_TOML)
    write_pictures(study.images, 119)
    with pytest.raises(FactoryError, match="images: 119 usable images, and this study's panels need 120"):
        study_images(study)


def test_enough_images_are_enough(tmp_path):
    study = write_study(tmp_path, STUDY_TOML)
    write_pictures(study.images, 120)
    assert len(study_images(study).names) == 120

"""Whether a study has enough natural images."""

from crowd_imi.errors import FactoryError
from crowd_imi.image_sets import ImageSet, image_set
from crowd_imi.study import Study, images_needed


def study_images(study: Study) -> ImageSet:
    """The images that study.toml names.

    Raises:
        FactoryError: they aren't there, or fewer than the arms' panels need.
    """
    images = image_set(study)
    check_count(study, len(images.names), 0)
    return images


def check_count(study: Study, usable: int, left_out: int) -> None:
    """Make sure that there are enough images for every arm's panels.

    Raises:
        FactoryError: there aren't; it says how many are needed.
    """
    needed = images_needed(study.file)
    if usable < needed:
        unusable = f" ({left_out} more can't be used)" if left_out else ""
        raise FactoryError(
            f"{study.images}: {usable} usable images{unusable}, and this study's panels need {needed}; add images or lower "
            "panels.batches"
        )

"""study.toml: what the researcher writes, as frozen models.

``load_study`` reports every problem at once, each with its key, what is wrong and what would be right.
"""

from crowd_imi.study.fields import IMAGE_SUFFIXES, NULL, PUBLISHED, SCHEMA, ReadableBy
from crowd_imi.study.file import Study, StudyFile, images_needed, load_study
from crowd_imi.study.platform_sections import HostingSection, LinkSection, MturkSection, ProlificSection
from crowd_imi.study.sections import (
    ArmSection,
    ExclusionSection,
    ImagesSection,
    ModelSection,
    PagesSection,
    PanelsSection,
    PaySection,
    ReadoutSection,
    RecordingSection,
    StudySection,
    TasksSection,
    VisualisationSection,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "NULL",
    "PUBLISHED",
    "SCHEMA",
    "ArmSection",
    "ExclusionSection",
    "HostingSection",
    "ImagesSection",
    "LinkSection",
    "ModelSection",
    "MturkSection",
    "PagesSection",
    "PanelsSection",
    "PaySection",
    "ProlificSection",
    "ReadableBy",
    "ReadoutSection",
    "RecordingSection",
    "Study",
    "StudyFile",
    "StudySection",
    "TasksSection",
    "VisualisationSection",
    "images_needed",
    "load_study",
]

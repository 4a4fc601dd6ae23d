"""Values that several sections of study.toml hold, and names that no study may take."""

from typing import Annotated, Literal

from pydantic import Field

SCHEMA = 1

NULL = "null"
"""What null units are called in every table, so no model may be called so."""

PUBLISHED = "imi:"
"""How the source of one of the publication's nine models begins."""

Source = Annotated[
    str,
    Field(
        pattern=r"^(timm:.+|lucent:inceptionv1|imi:[a-z0-9_]+|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
        json_schema_extra={"form": "timm:ARCHITECTURE (e.g. timm:resnet50.tv_in1k), imi:NAME or package.module:function"},
    ),
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

ReadableBy = Literal["policy", "acl", "own"]
"""How everybody may read hosted sprites: a bucket policy, each object's ACL, or a way that the bucket's owner has set up."""


WebAddress = Annotated[
    str,
    Field(
        pattern=r"^https?://[^\s?#;,'\"]+$", json_schema_extra={"form": "https://… without ? or #, e.g. https://s3.example.org"}
    ),
]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Pixels = Annotated[int, Field(ge=32, le=512, strict=True)]
AboveZero = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]

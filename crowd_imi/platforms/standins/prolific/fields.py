"""What a study may say (``POST`` and ``PATCH /studies/``), and what is wrong with it in Prolific's form."""

import ipaddress
import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from crowd_imi.platforms.standins.prolific.desk import Refusal, bad_request
from crowd_imi.platforms.standins.prolific.filters import FILTERS, Filter
from crowd_imi.records import Record

NAME_LIMIT = 120
"""Characters of a study's name and internal name. Prolific's documents state none; its form stops near here."""
DESCRIPTION_LIMIT = 16_000
HOURLY_FLOOR = {"GBP": 600, "USD": 800}
"""Minor units per hour that a study must pay by its own estimate."""
MINUTES_LIMIT = 24 * 60

PLACEHOLDERS = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")

CodeType = Literal[
    "COMPLETED", "FAILED_ATTENTION_CHECK", "FOLLOW_UP_STUDY", "GIVE_BONUS", "INCOMPATIBLE_DEVICE", "NO_CONSENT", "OTHER",
    "FIXED_SCREENOUT",
]  # fmt: skip
ActionName = Literal[
    "AUTOMATICALLY_APPROVE", "MANUALLY_REVIEW", "REQUEST_RETURN", "ADD_TO_PARTICIPANT_GROUP", "REMOVE_FROM_PARTICIPANT_GROUP",
    "FIXED_SCREENOUT",
]  # fmt: skip


class Part(Record):
    """Part of a study: numbers are numbers, not strings of digits."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Action(Part):
    """What a completion code does."""

    action: ActionName
    return_reason: str | None = None
    participant_group: str | None = None
    fixed_screenout_reward: Annotated[int, Field(gt=0)] | None = None
    slots: Annotated[int, Field(ge=0)] | None = None


class CompletionCode(Part):
    """One code that participants hand in with."""

    code: Annotated[str, Field(min_length=1, max_length=60)]
    code_type: CodeType
    actions: Annotated[list[Action], Field(min_length=1)]
    actor: Literal["participant", "researcher"] = "participant"

    @model_validator(mode="after")
    def _actions_agree(self) -> Self:
        names = {action.action for action in self.actions}
        if {"AUTOMATICALLY_APPROVE", "MANUALLY_REVIEW"} <= names:
            raise ValueError("AUTOMATICALLY_APPROVE and MANUALLY_REVIEW can't be used together")
        return self

    def action(self, name: ActionName) -> Action | None:
        return next((action for action in self.actions if action.action == name), None)


class Range(Part):
    """From … to …, both included."""

    lower: float | None = None
    upper: float | None = None


class ChosenFilter(Part):
    """A filter with its values."""

    filter_id: str
    selected_values: list[str] | None = None
    selected_range: Range | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = FILTERS.get(self.filter_id)
        if known is None:
            raise ValueError(f"filter {self.filter_id} doesn't exist; GET /api/v1/filters/ lists them")
        _fits(self, known)
        return self


class AccessDetail(Part):
    """A URL with a number of places of its own."""

    external_url: str
    total_allocation: Annotated[int, Field(ge=1)]


class SubmissionsConfig(Part):
    """How often and how many at a time may take part."""

    max_submissions_per_participant: Annotated[int, Field(ge=1)] = 1
    max_concurrent_submissions: int = -1
    """-1 is no limit."""
    auto_rejection_categories: list[str] = Field(default_factory=list)


class StudyFields(Part):
    """Everything that a requester writes in a study."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]
    internal_name: Annotated[str, Field(max_length=NAME_LIMIT)] = ""
    description: Annotated[str, Field(min_length=1, max_length=DESCRIPTION_LIMIT)]
    external_study_url: str | None = None
    access_details: list[AccessDetail] | None = None
    is_external_study_url_secure: bool = False
    prolific_id_option: Literal["url_parameters", "question", "not_required"]
    completion_codes: Annotated[list[CompletionCode], Field(min_length=1)]
    estimated_completion_time: Annotated[int, Field(ge=1, le=MINUTES_LIMIT)]
    maximum_allowed_time: Annotated[int, Field(le=MINUTES_LIMIT)] | None = None
    reward: Annotated[int, Field(ge=1)]
    total_available_places: Annotated[int, Field(ge=1)]
    device_compatibility: list[Literal["desktop", "mobile", "tablet"]] = Field(default_factory=list)
    peripheral_requirements: list[Literal["audio", "camera", "download", "microphone"]] = Field(default_factory=list)
    filters: list[ChosenFilter] = Field(default_factory=list)
    submissions_config: SubmissionsConfig = SubmissionsConfig()
    project: str | None = None
    study_labels: list[str] = Field(default_factory=list)
    content_warnings: list[str] = Field(default_factory=list)
    content_warning_details: str | None = None
    metadata: str | dict[str, Any] | None = None

    @field_validator("external_study_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url is not None and not safe_url(url):
            raise ValueError(f"{url} must begin with https:// (or lead to this machine, where the stand-in allows http://)")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.external_study_url is None) == (self.access_details is None):
            raise ValueError("give one of external_study_url and access_details")
        if self.access_details is not None:
            allocated = sum(detail.total_allocation for detail in self.access_details)
            if allocated != self.total_available_places:
                raise ValueError(f"access_details allocate {allocated} places of {self.total_available_places}")
        codes = [code.code for code in self.completion_codes]
        if len(set(codes)) < len(codes):
            raise ValueError("each completion code must be unique in a study")
        least = least_minutes(self.estimated_completion_time)
        if self.maximum_allowed_time is not None and self.maximum_allowed_time < least:
            raise ValueError(
                f"maximum_allowed_time must be at least {least} minutes for an estimated_completion_time of "
                f"{self.estimated_completion_time}"
            )
        return self

    @property
    def allowed_minutes(self) -> int:
        """When a participant is timed out."""
        return self.maximum_allowed_time or least_minutes(self.estimated_completion_time)

    def code(self, entered: str) -> CompletionCode | None:
        """The completion code that a participant may hand in with; None when there is none such."""
        return next((code for code in self.completion_codes if code.code == entered and code.actor == "participant"), None)


def least_minutes(estimated: int) -> int:
    """The shortest time that participants must be given: 2 + 2t + 2√t minutes."""
    return math.ceil(2 + 2 * estimated + 2 * math.sqrt(estimated))


def safe_url(url: str) -> bool:
    """HTTPS, or HTTP to this machine."""
    try:
        parts = urlsplit(url.replace("{{%", "").replace("%}}", ""))
    except ValueError:
        return False
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname))


def checked(values: object, currency: str) -> StudyFields:
    """A study's fields.

    Raises:
        Refusal: 400, with every problem under its field's name.
    """
    try:
        fields = StudyFields.model_validate(values)
    except ValidationError as error:
        raise misfits(error) from None
    hourly = fields.reward * 60 / fields.estimated_completion_time
    if hourly < HOURLY_FLOOR[currency]:
        raise bad_request(
            {
                "reward": [
                    f"{fields.reward} for {fields.estimated_completion_time} minutes is less than the minimum of "
                    f"{HOURLY_FLOOR[currency]} per hour (amounts in the sub-currency)"
                ]
            }
        )
    return fields


def misfits(error: ValidationError) -> Refusal:
    """Every problem under its field's name, as Prolific writes them."""
    detail: dict[str, list[str]] = {}
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "non_field_errors"
        detail.setdefault(where, []).append(problem["msg"].removeprefix("Value error, "))
    return bad_request(detail)


def _fits(chosen: ChosenFilter, known: Filter) -> None:
    if known.type == "range":
        found = chosen.selected_range
        if found is None or chosen.selected_values is not None:
            raise ValueError(f"filter {known.filter_id} takes selected_range")
        for end in (found.lower, found.upper):
            if end is not None and not (known.min or 0) <= end <= (known.max or 0):
                raise ValueError(f"filter {known.filter_id} goes from {known.min} to {known.max}, which {end:g} isn't in")
        return
    if chosen.selected_values is None or chosen.selected_range is not None:
        raise ValueError(f"filter {known.filter_id} takes selected_values")
    unknown = [] if known.choices is None else [value for value in chosen.selected_values if value not in known.choices]
    if unknown:
        raise ValueError(f"filter {known.filter_id} has no choice {', '.join(unknown)}; GET /api/v1/filters/ lists them")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

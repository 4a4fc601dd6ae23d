"""The filters that a study may use: a small choice of Prolific's.

Those that go by what happened here (blocklists, allowlists, groups) are enforced when somebody takes a place. Nobody here has
a country, a language or an approval rate, so the others are checked for form only.
"""

from crowd_imi.records import Record

COUNTRIES = (
    *("United Kingdom", "United States", "Ireland", "Germany", "France", "Spain", "Italy", "Portugal", "Poland", "Netherlands"),
    *("Belgium", "Austria", "Switzerland", "Sweden", "Norway", "Denmark", "Finland", "Greece", "Hungary", "Czech Republic"),
    *("Slovenia", "Estonia", "Latvia", "Iceland", "Luxembourg", "Israel", "South Africa", "Mexico", "Chile", "Canada"),
    *("Australia", "New Zealand", "Japan", "Korea", "India"),
)
LANGUAGES = (
    *("English", "German", "French", "Spanish", "Italian", "Portuguese", "Polish", "Dutch", "Swedish", "Norwegian", "Danish"),
    *(
        "Finnish",
        "Greek",
        "Hungarian",
        "Czech",
        "Hebrew",
        "Japanese",
        "Korean",
        "Chinese",
        "Hindi",
        "Arabic",
        "Turkish",
        "Russian",
    ),
)


class Filter(Record):
    """One entry of ``GET /filters/``."""

    filter_id: str
    title: str
    description: str
    type: str
    """``select`` takes selected_values, ``range`` takes selected_range."""
    data_type: str
    choices: dict[str, str] | None = None
    """Value → what it means; None for a select of ids."""
    min: int | None = None
    max: int | None = None


def _of_ids(filter_id: str, title: str) -> Filter:
    return Filter(filter_id=filter_id, title=title, description=title + ".", type="select", data_type="ParticipantGroupID")


def _choice(filter_id: str, title: str, names: tuple[str, ...]) -> Filter:
    choices = {str(number): name for number, name in enumerate(names)}
    return Filter(filter_id=filter_id, title=title, description=title + ".", type="select", data_type="ChoiceID", choices=choices)


def _range(filter_id: str, title: str, low: int, high: int) -> Filter:
    return Filter(filter_id=filter_id, title=title, description=title + ".", type="range", data_type="integer", min=low, max=high)


FILTERS = {
    found.filter_id: found
    for found in (
        _of_ids("previous_studies_blocklist", "Exclude participants from previous studies"),
        _of_ids("previous_studies_allowlist", "Include participants from previous studies"),
        _of_ids("participant_group_blocklist", "Exclude participant groups"),
        _of_ids("participant_group_allowlist", "Include participant groups"),
        _of_ids("custom_blocklist", "Exclude participants by their ids"),
        _of_ids("custom_allowlist", "Include participants by their ids"),
        _choice("current-country-of-residence", "Current country of residence", COUNTRIES),
        _choice("fluent-languages", "Fluent languages", LANGUAGES),
        _choice("first-language", "First language", LANGUAGES),
        _choice("vision", "Normal or corrected-to-normal vision", ("Yes", "No")),
        _choice("colourblindness", "Colour blindness", ("Yes", "No")),
        _range("approval_rate", "Approval rate, in percent", 0, 100),
        _range("approval_numbers", "Number of earlier submissions", 0, 10_000),
        _range("age", "Age", 18, 100),
    )
}

"""A sheet for a review board: what participants meet, read and leave behind, from the study as it is."""

from typing import Any

from crowd_imi.pages.texts import load_texts
from crowd_imi.study import Study


def review_sheet(study: Study) -> str:
    """The sheet, in Markdown; what only people can say is marked *fill in*.

    Raises:
        StudyError: the template has no texts in the study's language.
    """
    texts = load_texts(study)
    parts = (
        f"# {study.file.study.title}: information for the review board",
        _people(study),
        _procedure(study),
        "## What participants read before they begin\n\n" + _consent(texts["consent"]),
        "## What they read at the end\n\n" + "\n\n".join(f"> {text}" for text in texts["done"]["debrief"]),
        _data(),
        _risks(study),
    )
    return "\n\n".join(parts) + "\n"


def _people(study: Study) -> str:
    pages = study.file.pages
    rows = (
        ("Investigator", pages.investigator),
        ("Institution", pages.institution),
        ("Contact for participants", pages.contact),
        ("Approval", pages.approval or "*fill in*"),
        ("Funding, conflicts of interest", "*fill in*"),
    )
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)


def _procedure(study: Study) -> str:
    file = study.file
    per_hour = file.pay.reward * 60 / file.pay.estimated_minutes / 100
    return (
        f"## Procedure\n\nAbout {file.pay.estimated_minutes:g} minutes in a web browser: consent, instructions, practice (up to "
        f"{file.exclusion.max_practice_blocks} rounds), then {file.tasks.trials + file.tasks.catch} questions about pictures, "
        f"{file.tasks.catch} of which have an answer that is easy to see. Paid {file.pay.reward_money}, which is {per_hour:.2f} "
        f"{file.pay.currency} per hour; also who fails the practice, and whose answers can't be used. Nobody is rejected by a "
        "program. Whoever stops gives the place back, without a reason and without a disadvantage on our side. Participants must "
        "be 18 or older and see colours normally."
    )


def _consent(consent: dict[str, Any]) -> str:
    sections = "\n>\n".join(f"> **{section['heading']}.** {section['text']}" for section in consent["sections"])
    return (
        f"> {consent['lead']}\n>\n{sections}\n\nButtons: “{consent['agree']}”, “{consent['disagree']}”. The version "
        f"(`{consent['version']}`) and the time of agreeing are kept."
    )


def _data() -> str:
    return (
        "## Data\n\n"
        "- **Kept:** answers, confidence, reaction times, time on each page, window size, name of the browser.\n"
        "- **Not kept:** addresses of computers, user agents; proxies' logs should be switched off.\n"
        "- **Ids by which people are paid** lie in a file of their own (`people.db`), joined to answers by a keyed hash, never "
        "exported. When they are deleted: *fill in a date or a rule*.\n"
        "- **Withdrawal** after taking part: *fill in until when, and how*; without the ids, answers can't be found any more.\n"
        "- **Sharing:** answers may be published under random ids, without times of day."
    )


def _risks(study: Study) -> str:
    images = study.file.images
    warning = study.file.pages.content_warning.strip()
    shown = f"Participants are warned beforehand: “{warning}”" if warning else "A person looked through all pictures before."
    return (
        f"## Risks\n\nThose of using a computer. The pictures come from: {images.provenance or '*fill in*'} (licence: "
        f"{images.licence}). {shown}"
    )

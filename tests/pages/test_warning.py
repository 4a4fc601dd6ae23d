"""A content warning: what a participant reads before consenting, and in the list of places."""

import html

from crowd_imi.pages.places import create_app
from crowd_imi.pages.texts import load_texts
from crowd_imi.study import load_study
from tests.tiny import STUDY_TOML

WARNING = "Some images show {wounds} & blood."
WARNED = STUDY_TOML.replace("[pages]", f'[pages]\ncontent_warning = "{WARNING}"')


def test_a_warning_stands_first_in_the_consent_and_makes_it_another_form(posted, make_run):
    plain = load_texts(load_study(posted))["consent"]
    warned = make_run(WARNED).visitor("ann").view()["texts"]["consent"]
    assert warned["sections"][0] == {"heading": "Please know beforehand", "text": WARNING}
    assert warned["sections"][1:] == plain["sections"]
    assert warned["version"] != plain["version"] and "warning" not in plain


def test_consenting_to_the_form_with_the_warning_works(make_run):
    run = make_run(WARNED)
    assert run.visitor("ann").consent().json["step"] == "instructions"


def test_the_list_of_places_warns_too(make_run):
    page = create_app(make_run(WARNED).platform).test_client().get("/").text
    assert f"Please know beforehand: {html.escape(WARNING)}" in page

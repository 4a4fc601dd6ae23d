import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.lifecycle import VisitState
from crowd_imi.scoring import score, wording
from crowd_imi.scoring.crossed_model import with_crossed
from crowd_imi.scoring.notes import notes
from crowd_imi.scoring.panels import disputed
from crowd_imi.scoring.report import remarks, write_report
from crowd_imi.scoring.stimuli import layer_order, open_pack
from crowd_imi.store.tables import Task
from crowd_imi.study import Study
from tests.scoring import fake


class Page(HTMLParser):
    """What of a page the tests look at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.headers: list[dict[str, str | None]] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.addresses += [given[name] for name in ("src", "href", "srcset", "data") if name in given]
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "img":
            self.images.append(given)
        if tag == "th":
            self.headers.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def html(finished) -> str:
    study, store, run = finished
    return write_report(study, store, score(study, store), run / "report", note="A <remark> & more").read_text()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_elsewhere(page, html):
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"script", "iframe", "object", "embed"} & page.tags
    assert "@import" not in html and "url(" not in html


def test_links_inside_the_page_lead_somewhere(page):
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids


def test_every_figure_has_an_alternative_text_and_its_size(page):
    # Means, units, natural against synthetic, depth, confidence, reaction times, flow, attrition, exclusions, times, money, and
    # four panels. None is disputed: each panel was shown once.
    assert len(page.images) == 15
    assert all(len(image["alt"] or "") > 30 and int(image["width"] or 0) > 100 for image in page.images)
    assert len({image["alt"] for image in page.images}) == 15


def test_the_panel_that_people_disagree_about_is_shown(finished):
    study, store, _run = finished
    scores = score(study, store)
    arm = scores.counted["arm"] == "toy-natural-easy"
    asked = arm & (scores.counted["unit"] == scores.counted[arm]["unit"].iloc[0])
    # Three people see one panel of the unit, and one of them is wrong: two of the three pairs are apart.
    answers = scores.counted.assign(batch=scores.counted["batch"].where(~asked, 0))
    answers.loc[asked, "correct"] = [True, False, True]
    pack, _problem = open_pack(study, store)
    (shown,) = disputed(replace(scores, counted=answers), pack)
    assert shown.heading == "Most disputed, natural references"
    assert "Of 3 pairs of participants who saw the same panel, 2 disagree. Shown: batch 0." in shown.caption


def test_headings_do_not_skip_a_level_and_header_cells_say_what_they_head(page):
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert all(header.get("scope") in {"row", "col"} for header in page.headers)


def test_the_page_says_what_it_is_and_holds_the_numbers(page, finished):
    study, store, _run = finished
    group = score(study, store).group("toy", "natural")
    assert "Rehearsal: simulated participants, not data." in page.text
    assert "A <remark> & more" in page.text
    assert f"{group.mean:.2f}"[1:] in page.text
    assert store.about("plan_sha256") in page.text and "Seed7" in page.text.replace("\n", "")
    assert "each row chosen at least 5 times" in page.text


def test_the_page_is_small_and_the_same_each_time(html, finished, tmp_path):
    study, store, _run = finished
    again = write_report(study, store, score(study, store), tmp_path, note="A <remark> & more")
    assert again.read_text() == html
    assert len(html) < 3_000_000


def test_the_plot_by_depth_follows_the_networks_modules_and_says_so(study, store, tmp_path):
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=1).one()
        visit = fake.add_visit(session, task, 1, VisitState.VALID)
        fake.add_answers(session, visit, dict.fromkeys(range(6), True))
        fake.judge(session, visit)

    def depth(scores):
        page = Page(write_report(study, store, scores, tmp_path).read_text())
        (said,) = [image["alt"] for image in page.images if "by layer" in (image["alt"] or "")]
        return re.findall(r"layer\d", said), page.text

    layers, text = depth(score(study, store, {"toy": ("layer2", "layer0", "layer1")}))
    assert layers[:3] == ["layer2", "layer0", "layer1"]
    assert "Layers stand in the order of the network's modules." in text
    layers, text = depth(score(study, store))
    assert layers[:3] == ["layer0", "layer1", "layer2"]
    assert "Layers of toy stand in the order of their names" in text


def test_without_its_pack_no_order_of_layers_is_known(finished, tmp_path):
    study, store, _run = finished
    assert layer_order(Study(tmp_path, study.file), store) == {}
    assert set(layer_order(study, store)) == {"toy"}


def test_without_its_pack_a_study_has_no_panels_and_the_reason_is_said(finished, tmp_path):
    study, store, _run = finished
    pack, problem = open_pack(Study(tmp_path, study.file), store)
    assert pack is None and "there is no pack here" in problem


def test_one_submission_is_enough_for_a_report_that_names_what_is_missing(study, store, tmp_path):
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=1).one()
        visit = fake.add_visit(session, task, 1, VisitState.VALID)
        fake.add_answers(session, visit, dict.fromkeys(range(6), True))
        fake.judge(session, visit)
    page = Page(write_report(study, store, score(study, store), tmp_path).read_text())
    # 8 + 6 units, of which the one task shows 6.
    assert "8 units have no valid response yet and are left out of every mean." in page.text
    assert "toy-synthetic-easy toy/layer0/0" in page.text
    assert "Nobody was excluded." in page.text
    assert "No unit has answers in both conditions" in page.text
    # This store was made with a digest of zeros.
    assert "No panels can be shown" in page.text and "this isn't the pack that participants saw" in page.text
    assert not re.search(r"\bnan\b", page.text.lower())


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ((True, True), "Something leaks the answers"),
        ((False, False), "Null units were answered below chance"),
        ((True, False), "Control passed"),
    ],
)
def test_the_null_units_are_judged_in_words(study, store, right, said):
    with store.write() as session:
        # The plan's queue is 8 units in turn: the second task begins with the two null units.
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=2).one()
        for number in range(6):
            visit = fake.add_visit(session, task, number, VisitState.VALID, holds_task=False)
            fake.add_answers(session, visit, dict(enumerate((*right, True, True, True, True))))
            fake.judge(session, visit)
    # 12 of 12, or none: p = 2 / 2¹². Units at 1 and 0 have their mean at ½: t = 0.
    assert said in remarks(score(study, store))[0].text


def test_the_control_goes_by_t_over_units(study, store):
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=2).one()
        for number in range(4):
            visit = fake.add_visit(session, task, number, VisitState.VALID, holds_task=False)
            fake.add_answers(session, visit, {0: number != 3, 1: True})
            fake.judge(session, visit)
    # Units at .75 and 1: t = .375 / (.25 / 2) = 3 with one degree of freedom, p = 1 − 2/π · arctan 3 = .205. Residuals of one
    # participant to the two units have nothing in common. The bootstrap of two units reaches from .75 to 1.
    said = remarks(score(study, store))[0].text
    p_value = "p = .205".replace(" ", "\N{NO-BREAK SPACE}")  # kept on one line
    assert said.startswith("Control passed") and said.endswith(f"(natural references, easy: .88 [.75, 1.00], {p_value}).")


def test_two_answers_to_null_units_show_nothing(study, store):
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=2).one()
        visit = fake.add_visit(session, task, 1, VisitState.VALID)
        fake.add_answers(session, visit, {0: True, 1: True})
        fake.judge(session, visit)
    # Two of two: p = .5 at best.
    assert remarks(score(study, store))[0].text.startswith("There are too few answered null units")


def test_what_looks_more_certain_than_it_is_is_said(study, store, tmp_path):
    with store.write() as session:
        task = session.query(Task).filter_by(arm="toy-natural-easy", number=1).one()
        visit = fake.add_visit(session, task, 1, VisitState.VALID)
        fake.add_answers(session, visit, dict.fromkeys(range(6), True))
        fake.judge(session, visit)
    scores = score(study, store)
    said = notes(scores)
    assert said[0].startswith("6 units with a single response, hence very wide intervals: toy-natural-easy toy/layer")
    assert said[1] == (
        "toy, natural references, easy: 6 answers, all right, so that the bootstrap sees no spread; its interval without width "
        "isn't certainty."
    )
    assert {*said} <= {remark.text for remark in remarks(scores)}
    assert said[1] in Page(write_report(study, store, scores, tmp_path).read_text()).text


def test_score_prints_the_groups_and_writes_both_tables(finished):
    study, _store, run = finished
    done = CliRunner().invoke(app, ["score", str(study.folder), "--rehearsal", "first"])
    assert done.exit_code == 0
    assert "null units" in done.output and "synthetic" in done.output
    assert (run / "report" / "units.csv").exists() and (run / "report" / "models.csv").exists()


def test_score_json_is_one_document_with_the_groups(finished):
    study, store, run = finished
    done = CliRunner().invoke(app, ["score", str(study.folder), "--rehearsal", "first", "--json"])
    document = json.loads(done.stdout)
    assert document["units_csv"] == str(run / "report" / "units.csv")
    assert document["groups"] == [group.model_dump() for group in score(study, store).groups]


def test_report_json_says_where_the_page_is(finished):
    study, _store, _run = finished
    done = CliRunner().invoke(app, ["report", str(study.folder), "--rehearsal", "first", "--json"])
    assert Path(json.loads(done.stdout)["report"]).read_text().startswith("<!doctype html>")


def test_score_without_a_store_says_so_and_fails(study):
    done = CliRunner().invoke(app, ["score", str(study.folder)])
    assert done.exit_code == 1
    assert "there is no study database here" in done.output


def test_every_figure_is_also_a_file_with_its_numbers(html, finished):
    _study, _store, run = finished
    folder = run / "report" / "figures"
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {path.stem for path in folder.glob("*.csv")}
    drawn = {
        "groups",
        "units",
        "conditions",
        "depth",
        "calibration",
        "reaction_times",
        "flow",
        "attrition",
        "exclusion",
        "minutes",
    }
    assert names == drawn | {"money"}
    assert all(path.read_text().lstrip().startswith("<?xml") for path in folder.glob("*.svg"))
    assert all(len(pd.read_csv(path)) for path in folder.glob("*.csv"))


def test_the_page_has_reliability_thresholds_and_what_was_decided_later(page):
    assert {"reliability", "participants", "methods"} <= page.ids
    assert "What other thresholds would change" in page.text
    assert "There is no study.lock here" in page.text
    assert "between halves of the participants" in page.text or "to say how reliable unit scores are" in page.text


def test_the_crossed_model_stands_in_the_page_when_it_was_fitted(finished, tmp_path):
    study, store, _run = finished
    crossed = with_crossed(score(study, store))
    page = Page(write_report(study, store, crossed, tmp_path).read_text())
    assert "The crossed model: probability of a right answer" in page.text
    assert wording.share(crossed.groups[0].crossed) in page.text
    assert "wasn't fitted for this page" not in page.text


def test_a_page_without_the_crossed_model_says_how_to_have_it(page):
    assert "The crossed model: probability of a right answer" not in page.text
    assert "wasn't fitted for this page: crowd-imi report … --rehearsal NAME fits it" in page.text


def test_a_pilot_is_counted_and_left_out(study, store, tmp_path):
    with store.write() as session:
        tasks = list(session.scalars(select(Task).order_by(Task.id)))
        main = fake.add_visit(session, tasks[0], 1, VisitState.VALID)
        fake.judge(session, main)
        fake.add_answers(session, main, dict.fromkeys(range(5), True))
    before = score(study, store)
    with store.write() as session:
        # Two submitted, one of them still to be judged; a third left.
        judged = fake.add_visit(session, tasks[1], 2, VisitState.VALID, label="pilot")
        fake.judge(session, judged)
        waiting = fake.add_visit(session, tasks[1], 3, VisitState.SUBMITTED, label="pilot")
        for visit in (judged, waiting):
            fake.add_answers(session, visit, dict.fromkeys(range(5), False))
        fake.add_visit(session, tasks[1], 4, VisitState.RETURNED, label="pilot", submitted_at=None)
    after = score(study, store)
    assert (before.pilot_submissions, after.pilot_submissions) == (0, 2)
    assert after.groups == before.groups and after.units.equals(before.units)
    said = "The pilot had 2 submissions, which no figure on this page counts but those of money."
    assert said in Page(write_report(study, store, after, tmp_path).read_text()).text
    assert not any("pilot" in remark.text for remark in remarks(before))


def test_score_prints_what_the_crossed_model_found(finished):
    study, store, _run = finished
    done = CliRunner().invoke(app, ["score", str(study.folder), "--rehearsal", "first", "--crossed"])
    group = with_crossed(score(study, store)).groups[0]
    (line,) = [line for line in done.output.partition("Crossed model")[2].splitlines() if line.startswith("toy    natural")]
    shown = f"{wording.share(group.crossed)} {wording.interval(group.crossed_low, group.crossed_high)}"
    assert shown in line.replace("\N{NO-BREAK SPACE}", " ")
    assert line.split()[-3:] == [f"{spread:.2f}" for spread in (group.unit_sd, group.participant_sd, group.panel_sd)]

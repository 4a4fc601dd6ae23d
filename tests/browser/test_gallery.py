"""The gallery, opened from the disk: images and units are marked by mouse and keyboard, and the command to run is written."""

import shlex

import pytest

from crowd_imi.factory.gallery import write_gallery
from crowd_imi.pack import Pack
from crowd_imi.vetoes import change_vetoes
from tests.tiny import write_pack, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = write_study(tmp_path_factory.mktemp("gallery") / "it's a study")
    write_pack(study)
    write_gallery(study)
    return study


@pytest.fixture
def page(window, study):
    window.page.goto((study.pack / "gallery.html").as_uri())
    return window.page


def command(page):
    return shlex.split(page.locator("#command").text_content())


def test_marks_become_a_command_that_vetoes_them(page, study):
    assert not page.locator("#bar").is_visible()
    page.locator(".image").nth(0).click()
    page.locator(".image").nth(25).click()
    page.locator(".image").nth(25).click()  # and back
    page.locator(".mark-unit").nth(1).click()
    page.locator("#reason").fill('it\'s "odd" $HOME')
    assert page.locator("#marked").text_content() == "1 image and 1 unit marked"
    words = command(page)
    assert words[:3] == ["crowd-imi", "gallery", str(study.folder)]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {"--veto": options["--veto"], "--veto-unit": "toy/layer1/1", "--reason": 'it\'s "odd" $HOME'}
    vetoes = change_vetoes(study, images=[options["--veto"]], units=[options["--veto-unit"]])
    first = Pack(study.pack).manifest.arms[0].units[0].panels[0].references.min[0]
    assert [veto.sha256 for veto in vetoes.images.values()] == [first.image]


def test_an_image_is_marked_wherever_it_is_shown_and_marks_survive_a_reload(page):
    page.locator(".image").nth(3).click()
    assert page.locator('.image[aria-pressed="true"]').count() == 1
    page.reload()
    assert page.locator("#marked").text_content() == "1 image marked"
    assert page.locator(".image").nth(3).get_attribute("aria-pressed") == "true"
    page.locator("#clear").click()
    assert not page.locator("#bar").is_visible() and page.locator('[aria-pressed="true"]').count() == 0


def test_the_keyboard_reaches_every_image(page):
    page.locator(".mark-unit").first.focus()
    page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowDown", "Space"):
        page.keyboard.press(key)
    # 0 → 1 → 4 → 3 → 0 → 3.
    pressed = [each.get_attribute("aria-pressed") for each in page.locator(".image").all()[:20]]
    assert [place for place, each in enumerate(pressed) if each == "true"] == [3]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_more_panels_are_made_when_they_are_asked_for(page):
    article = page.locator("article").first
    assert article.locator(".panel").count() == 1
    article.locator("summary").click()
    article.locator(".panel").nth(3).wait_for()
    assert article.locator(".panel").count() == 4
    article.locator(".panel").nth(3).locator(".image").first.click()
    assert page.locator("#marked").text_content() == "1 image marked"

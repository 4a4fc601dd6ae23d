"""Methods of explanation. Of feature visualisation: groups, what is kept, what becomes of units that photographs beat."""

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest

from crowd_imi.errors import FactoryError, PackError
from crowd_imi.factory import methods
from crowd_imi.factory.anew import make_anew
from crowd_imi.factory.gallery import write_gallery
from crowd_imi.factory.groups import Group, cut
from crowd_imi.factory.looker import Looker, activations
from crowd_imi.factory.methods import Explanation, FeatureVisualisation, wanted_key
from crowd_imi.factory.network import Network
from crowd_imi.factory.pack import PackWriter
from crowd_imi.factory.render import render
from crowd_imi.factory.visualize import Diverged
from crowd_imi.factory.visualize.ascent import diverged
from crowd_imi.pack import Pack
from crowd_imi.plan import Amendment, VoidedUnit
from crowd_imi.records import Exemplar, SidePair, Unit
from crowd_imi.study import VisualisationSection, load_study
from crowd_imi.vision.layers import describe_layers
from crowd_imi.vision.models import load_model
from crowd_imi.vision.preprocess import read_image
from tests.factory.conftest import STUDY_TOML
from tests.tiny import write_study

SYNTHETIC = "net-synthetic-easy"


def fail(*_):
    raise AssertionError("made again")


def units(*of_layers):
    return tuple(Unit(model="net", layer=layer, channel=channel) for layer, channel in of_layers)


def test_groups_are_of_one_layer_and_of_at_most_so_many_units():
    asked = units(("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2))
    grouped = [[(unit.layer, unit.channel) for unit in group] for group in cut(asked, 2)]
    assert grouped == [[("a", 1), ("a", 2)], [("a", 3)], [("b", 1), ("b", 2)]]


@pytest.fixture(scope="module")
def made(rendered):
    """Makes the method anew, as each process does."""
    section = rendered.file.models["net"]
    model = load_model(section, rendered.folder, 3)
    network = Network("net", model, describe_layers(model.module, ["layer1.0.conv1"], 32))
    columns = {unit: np.linspace(-0.1, 0.1, 50, dtype=np.float32) for unit in units(("layer1.0.conv1", 1), ("layer1.0.conv1", 2))}

    def make(folder, count=2, **settings):
        settings = VisualisationSection(**{"procedure": "fixed", "size": 32, "steps": 2, "diversity": 1.0, **settings})
        wanted = wanted_key("net", section, settings, 3)
        return FeatureVisualisation(network, dict(islice(columns.items(), count)), settings, 3, PackWriter(folder), wanted=wanted)

    return make, list(columns)


def test_whichever_unit_is_asked_for_first_a_group_comes_out_the_same(made, tmp_path):
    make, (first, second) = made
    forwards, backwards = make(tmp_path / "a"), make(tmp_path / "b")
    one, two = forwards.visualised(first), forwards.visualised(second)
    assert backwards.visualised(second) == two and backwards.visualised(first) == one


def test_a_unit_whose_group_was_finished_is_not_made_again(made, tmp_path, monkeypatch):
    make, (first, second) = made
    before = make(tmp_path).visualised(first)
    monkeypatch.setattr(Group, "made", fail)
    again = make(tmp_path)
    assert again.visualised(first) == before and again.visualised(second).unit == second


def test_it_is_told_how_images_were_made(made, tmp_path):
    make, (first, _) = made
    told = make(tmp_path).visualised(first).made
    assert told.max.steps == 2 and told.max.passes == 18 and told.max.diversity == 1.0 and told.max.engine == "batched"
    assert told.min.seed != told.max.seed
    assert told.max.best_natural == pytest.approx(0.1) and told.min.best_natural == pytest.approx(-0.1)
    assert 0 <= told.max.alike <= 1


def test_the_pack_tells_how_its_visualisations_were_made(rendered):
    real, _, null = Pack(rendered.pack).manifest.arm(SYNTHETIC).units
    assert real.visualised is not None and real.visualised.max.steps == 2
    assert null.visualised == real.visualised
    for side, sign in (("min", -1), ("max", 1)):
        # The photographs that drive it most are the natural references of the same unit.
        natural = next(e for e in Pack(rendered.pack).manifest.arm("net-natural-easy").units if e.unit == real.unit)
        best = max(sign * each.activation for panel in natural.panels for each in panel.references.side(side))
        made, shown_first = real.visualised.side(side), real.panels[0].references.side(side)[0]
        assert sign * made.best_natural >= best - 1e-6
        assert made.beats_natural == (sign * shown_first.activation >= sign * made.best_natural)
    assert all(entry.visualised is None for entry in Pack(rendered.pack).manifest.arm("net-natural-easy").units)


def with_policy(rendered, folder, policy):
    """A study like the rendered one, whose recordings are there already."""
    study = write_study(folder, STUDY_TOML.replace("steps = 2\n", f'steps = 2\nunbeaten = "{policy}"\n'))
    shutil.copytree(rendered.images, study.images, copy_function=shutil.copy2)
    return study


def surpass(rendered, patch):
    """The first unit of the synthetic arm: its visualisations count as weaker than a photograph, all others' as stronger."""
    unit = Pack(rendered.pack).manifest.arm(SYNTHETIC).units[0].unit
    patch.setattr(methods, "short_of", lambda kept: "too weak" if kept.unit == unit else None)
    return unit


@pytest.fixture
def surpassed(rendered, monkeypatch):
    return surpass(rendered, monkeypatch)


@pytest.fixture(scope="module")
def left_out(rendered, tmp_path_factory):
    """A study whose synthetic arm passes over that unit."""
    study = with_policy(rendered, tmp_path_factory.mktemp("left-out"), "leave_out")
    with pytest.MonkeyPatch.context() as patch:
        surpass(rendered, patch)
        render(study)
    return study


def shown(manifest, arm):
    return [entry.unit for entry in manifest.arm(arm).units if not entry.unit.null]


def test_a_surpassed_unit_stays_where_the_study_keeps_such_units(rendered, surpassed, tmp_path):
    manifest = render(with_policy(rendered, tmp_path, "keep"))
    assert surpassed in shown(manifest, "net-natural-easy")
    assert manifest.arm(SYNTHETIC) == Pack(rendered.pack).manifest.arm(SYNTHETIC)


def test_a_surpassed_unit_is_left_out_of_synthetic_arms_alone_where_the_study_says_so(rendered, surpassed, left_out):
    manifest = Pack(left_out.pack).manifest
    natural, synthetic = (shown(manifest, arm) for arm in ("net-natural-easy", SYNTHETIC))
    assert len(synthetic) == 2 and surpassed not in synthetic
    assert natural == shown(Pack(rendered.pack).manifest, "net-natural-easy") and surpassed in natural
    assert manifest.replacements[-1].unit == surpassed.key
    assert manifest.replacements[-1].reason == "left out of synthetic arms: too weak"
    assert manifest.replacements[-1].replaced_by in {unit.key for unit in synthetic}


def test_a_surpassed_unit_is_replaced_in_all_arms_where_the_study_says_so(rendered, surpassed, tmp_path):
    manifest = render(with_policy(rendered, tmp_path, "replace"))
    natural, synthetic = (shown(manifest, arm) for arm in ("net-natural-easy", SYNTHETIC))
    assert len(synthetic) == 2 and len(natural) == 6 and surpassed not in (*synthetic, *natural)
    assert ("too weak", surpassed.key) in {(one.reason, one.unit) for one in manifest.replacements}


def test_panels_made_anew_keep_their_visualisations_where_a_unit_was_left_out(left_out, monkeypatch):
    """Groups follow from who is visualised: of other units they would be made again, and images would come out otherwise."""
    monkeypatch.setattr(Group, "made", fail)
    before = Pack(left_out.pack).manifest.arm(SYNTHETIC)
    units = tuple(VoidedUnit(arm=SYNTHETIC, unit=entry.unit.key, revision=2) for entry in before.units)
    make_anew(left_out, Amendment(name="void-1", kind="void", at=datetime.now(UTC), tasks={}, units=units))
    after = Pack(left_out.pack).shown(["void-1"]).arm(SYNTHETIC)
    assert len(after.units) == len(before.units) == 3
    assert after.units[:2] != before.units[:2]  # queries are drawn by another seed
    for old, new in zip(before.units, after.units, strict=True):
        assert [panel.references for panel in new.panels] == [panel.references for panel in old.panels]


@pytest.fixture
def without_numbers(rendered, monkeypatch):
    """The second unit of the synthetic arm: whichever group it is made in diverges over it."""
    unit = Pack(rendered.pack).manifest.arm(SYNTHETIC).units[1].unit
    made = Group.made

    def diverge(group, network, settings):
        places = [place for place, (each, _) in enumerate(group.wanted) if each == unit]
        return diverged(group.targets(network)[places[0]], 50, settings) if places else made(group, network, settings)

    monkeypatch.setattr(Group, "made", diverge)
    monkeypatch.setattr(methods, "short_of", lambda _: None)
    return unit


def test_a_visualisation_without_numbers_ends_the_run_with_its_units_name_and_no_manifest(rendered, without_numbers, tmp_path):
    study = with_policy(rendered, tmp_path, "keep")
    where = f"{without_numbers.layer}/{without_numbers.channel}, min"
    with pytest.raises(Diverged, match=rf"^{re.escape(where)}: its visualisation gives values that aren't finite \(NaN\)"):
        render(study)
    assert not (study.pack / "manifest.json").exists()


def test_a_unit_whose_visualisation_has_no_numbers_is_left_out_where_the_study_says_so(rendered, without_numbers, tmp_path):
    manifest = render(with_policy(rendered, tmp_path, "leave_out"))
    synthetic = shown(manifest, SYNTHETIC)
    assert len(synthetic) == 2 and without_numbers not in synthetic
    assert without_numbers in shown(manifest, "net-natural-easy")
    assert manifest.replacements[-1].unit == without_numbers.key
    assert manifest.replacements[-1].reason.endswith(": its visualisation gives values that aren't finite")


def test_another_unit_stands_in_for_one_whose_visualisation_has_no_numbers(rendered, without_numbers, tmp_path):
    manifest = render(with_policy(rendered, tmp_path, "replace"))
    natural, synthetic = (shown(manifest, arm) for arm in ("net-natural-easy", SYNTHETIC))
    assert len(synthetic) == 2 and len(natural) == 6 and without_numbers not in (*synthetic, *natural)
    assert ("its visualisation gives values that aren't finite", without_numbers.key) in {
        (one.reason, one.unit) for one in manifest.replacements
    }


def test_a_visualisation_that_photographs_surpass_says_by_how_much(made, tmp_path):
    make, (first, _) = made
    kept = make(tmp_path).visualised(first)
    strong = kept.made.max.model_copy(update={"beats_natural": True})
    weak = strong.model_copy(update={"beats_natural": False, "best_natural": 7.0})
    both = kept.made.model_copy(update={"min": strong, "max": strong})
    assert methods.short_of(kept.model_copy(update={"made": both})) is None
    one = kept.model_copy(update={"made": both.model_copy(update={"max": weak})})
    assert methods.short_of(one).startswith("its max visualisations reach ") and "a photograph 7" in methods.short_of(one)


def test_the_gallery_shows_units_while_others_are_being_made(rendered, made, tmp_path):
    make, (first, _) = made
    study = replace(rendered, folder=tmp_path)
    assert not study.pack.exists()
    kept = make(study.pack).visualised(first)
    page = write_gallery(study).read_text()
    assert "being made" in page and "layer1.0.conv1, channel 1" in page and "2 units are finished" in page
    assert all(exemplar.image in page for exemplar in (*kept.references.min, *kept.references.max))


def test_the_gallery_shows_no_visualisation_by_other_settings_or_of_another_group(rendered, made, tmp_path):
    make, (first, _) = made
    study = replace(rendered, folder=tmp_path)
    other = make(study.pack, steps=1).visualised(first)
    with pytest.raises(PackError, match="there is no pack here"):
        write_gallery(study)
    kept = make(study.pack).visualised(first)
    page = write_gallery(study).read_text()
    assert "2 units are finished" in page
    assert kept.references.max[0].image in page and other.references.max[0].image not in page
    make(study.pack, count=1).visualised(first)  # as after the second one was vetoed
    assert "1 unit is finished" in write_gallery(study).read_text()
    models = {"net": study.file.models["net"].model_copy(update={"checkpoint": "another.safetensors"})}
    with pytest.raises(PackError, match="there is no pack here"):
        write_gallery(replace(study, file=study.file.model_copy(update={"models": models})))


MEAN = "mean of two photographs"


class Means:
    """Explains two units at a time, by means of the photographs that drive them most or least, as the network answers to them."""

    def __init__(self):
        self.together = []

    def explain(self, asked):
        asked = iter(asked)
        while units := list(islice(asked, 2)):
            self.together.append(len(units))
            network = units[0].network
            pixels = [self.means(one, side) for one in units for side in ("min", "max")]
            looker = Looker(network.model, network.layers, [one.unit for one in units])
            answers = looker.look(np.concatenate(pixels))[1].reshape(len(units), 2, 9, len(units))
            for place, one in enumerate(units):
                low, high = (
                    tuple(
                        Exemplar(image=one.store(image, f"{MEAN}, {side}"), activation=float(activation))
                        for image, activation in zip(pixels[2 * place + of_side], answers[place, of_side, :, place], strict=True)
                    )
                    for of_side, side in enumerate(("min", "max"))
                )
                yield Explanation((SidePair(min=low, max=high),) * len(one.ranks))

    def means(self, one, side):
        photographs = np.stack([one.photograph(rank) for rank in one.ranks[0].references.side(side)]).astype(float)
        return ((photographs + np.roll(photographs, 1, axis=0)) / 2).astype(np.uint8)


def copied(rendered, folder):
    """With its recordings."""
    shutil.copytree(rendered.folder, folder / "study")
    return load_study(folder / "study")


def test_a_third_method_is_given_the_model_units_at_once_and_their_photographs(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(Group, "made", fail)
    study, means = copied(rendered, tmp_path), Means()
    manifest = render(study, methods={"synthetic": means})
    # Two units and a null one.
    assert means.together == [2, 1]
    assert list(Pack(study.pack).damage()) == [] and list(Pack(study.pack).left_over()) == []
    before, arm = Pack(rendered.pack).manifest, manifest.arm(SYNTHETIC)
    assert manifest.arm("net-natural-easy") == before.arm("net-natural-easy")
    assert [entry.unit for entry in arm.units] == [entry.unit for entry in before.arm(SYNTHETIC).units]
    model = load_model(study.file.models["net"], study.folder, study.file.study.seed)
    for entry in arm.units:
        assert entry.visualised is None
        (layer,) = describe_layers(model.module, [entry.unit.layer], 32)
        for side in ("min", "max"):
            (references,) = {panel.references.side(side) for panel in entry.panels}
            assert {manifest.sources[exemplar.image] for exemplar in references} == {f"{MEAN}, {side}"}
            pixels = np.stack([read_image(Pack(study.pack).image(exemplar.image), 32) for exemplar in references])
            told = [exemplar.activation for exemplar in references]
            assert activations(model, layer, entry.unit.channel, pixels).tolist() == pytest.approx(told, rel=1e-4, abs=1e-6)
    assert f"{MEAN}, max" in write_gallery(study).read_text()

    first = VoidedUnit(arm=SYNTHETIC, unit=arm.units[0].unit.key, revision=2)
    voided = Amendment(name="void-1", kind="void", at=datetime.now(UTC), tasks={}, units=(first,))
    assert (arm.method, manifest.arm("net-natural-easy").method) == ("Means", None)
    for wrong, was, now in (
        ({}, f"{SYNTHETIC}: its images were made by Means", "the condition's own method"),
        ({"synthetic": means, "natural": means}, "net-natural-easy: its images were made by the condition's own method", "Means"),
    ):
        with pytest.raises(FactoryError, match=f"^{was} and not by {now}; make panels anew from Python"):
            make_anew(study, voided, methods=wrong)
    make_anew(study, voided, methods={"synthetic": means})
    (anew, *others) = Pack(study.pack).shown(["void-1"]).arm(SYNTHETIC).units
    assert others == list(arm.units[1:]) and anew.panels != arm.units[0].panels
    assert {Pack(study.pack).shown(["void-1"]).sources[e.image] for e in anew.panels[0].references.max} == {f"{MEAN}, max"}


class TwoForOne(Means):
    """Explains what it isn't asked to."""

    def explain(self, asked):
        for explanation in super().explain(asked):
            yield from (explanation, explanation)


class OneBatch(Means):
    """Has images for one batch of panels only."""

    def explain(self, asked):
        for explanation in super().explain(asked):
            yield Explanation(explanation.batches[:1])


class Forgetful(Means):
    """Leaves something out."""

    def __init__(self, units, images):
        super().__init__()
        self.units, self.images = units, images

    def explain(self, asked):
        for explanation in islice(super().explain(asked), self.units):
            both = SidePair(min=explanation.batches[0].min[: self.images], max=explanation.batches[0].max)
            yield Explanation((both,) * len(explanation.batches))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Forgetful(units=2, images=9), f"{SYNTHETIC}: Forgetful explains 2 of 3 units"),
        (
            Forgetful(units=3, images=8),
            "Forgetful gives 8 images of the lower side and 9 of the upper one; a panel shows 9 of each",
        ),
        (TwoForOne(), f"{SYNTHETIC}: TwoForOne gives an explanation of no unit"),
        (OneBatch(), "OneBatch gives 1 batches of images; the study has "),
    ],
)
def test_a_method_that_leaves_out_units_or_images_or_gives_too_many_is_named(rendered, tmp_path, method, said):
    with pytest.raises(FactoryError, match=re.escape(said)):
        render(copied(rendered, tmp_path), methods={"synthetic": method})

"""Records: frozen, strict, and written so that they can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crowd_imi.records import Money, SidePair, Unit

names = st.text("abcz09._-", min_size=1)
units = st.builds(Unit, model=names, layer=st.text("abcz09._-/", min_size=1), channel=st.integers(0, 10**6), null=st.booleans())


@given(unit=units)
def test_a_unit_is_read_back_from_its_key(unit):
    assert Unit.from_key(unit.key) == unit


def test_a_null_units_key_says_so():
    assert Unit(model="trained", layer="layer1.0.conv1", channel=12, null=True).key == "trained/layer1.0.conv1/12~null"


@pytest.mark.parametrize("key", ["", "model/12", "model/layer/", "model/layer/-1", "model/layer/1~nil", "/layer/1"])
def test_what_is_no_unit_is_refused(key):
    with pytest.raises(ValueError, match="a unit is written model/layer/channel"):
        Unit.from_key(key)


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00 USD"), (5, "0.05 USD"), (279, "2.79 USD"), (-279, "-2.79 USD"), (100000, "1000.00 USD")]
)
def test_money_is_shown_in_major_units(amount, text):
    assert str(Money(amount=amount, currency="USD")) == text


def test_a_record_takes_no_unknown_key_and_does_not_change():
    with pytest.raises(ValidationError, match="extra"):
        Money(amount=1, currency="USD", cents=1)
    money = Money(amount=1, currency="USD")
    with pytest.raises(ValidationError, match="frozen"):
        money.amount = 2


def test_a_side_pair_gives_each_side():
    pair = SidePair(min=1, max=2)
    assert (pair.side("min"), pair.side("max")) == (1, 2)

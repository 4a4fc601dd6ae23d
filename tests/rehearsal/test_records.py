from typing import get_args

from crowd_imi.rehearsal.characters import CHARACTERS
from crowd_imi.rehearsal.records import TROUBLEMAKERS, CharacterName


def test_everybody_but_observers_and_cheaters_makes_trouble():
    assert set(get_args(CharacterName)) == {"observer", *TROUBLEMAKERS, "cheater"}
    assert set(CHARACTERS) == {"observer", *TROUBLEMAKERS}

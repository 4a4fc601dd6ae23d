from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.rigs import FAULTS, RIGS, Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every platform, and where a test lets something go wrong: with everything that can on that platform."""
    if "fault" in metafunc.fixturenames:
        pairs = [(name, fault) for name in sorted(RIGS) for fault in FAULTS[name]]
        metafunc.parametrize(("rig", "fault"), pairs, indirect=["rig"])
    elif "rig" in metafunc.fixturenames:
        metafunc.parametrize("rig", sorted(RIGS), indirect=True)


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path) as made:
        yield made

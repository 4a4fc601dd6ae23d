"""One planned study for all tests of the rehearsal."""

import pytest

from crowd_imi.study import Study
from tests.rehearsal.stage import planned_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return planned_study(tmp_path_factory.mktemp("rehearsal"))

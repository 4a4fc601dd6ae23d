"""The demo runs from the wheel, so that it is shown to be whole."""

from tests.packaging.conftest import built, installed

__all__ = ["built", "installed"]

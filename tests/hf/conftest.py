"""The library that these tests need: no module of tests imports it when it is collected."""

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """The library transformers, or a skip where it is not installed."""
    module: ModuleType = pytest.importorskip("transformers")
    return module

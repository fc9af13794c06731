"""Parameters that share draws without being copies are drawn together, by every engine."""

from collections.abc import Callable

import pytest
from support.entangled_models import Block, assert_drawn_together, some_rows, transposed

from gptinit.config import Engine


@pytest.mark.parametrize("engine", ["dense", "stream", "lazy"])
@pytest.mark.parametrize("entangle", [transposed, some_rows])
def test_entangled_weights_are_drawn_together(
    entangle: Callable[[Block], None], engine: Engine
) -> None:
    assert_drawn_together(entangle, engine)

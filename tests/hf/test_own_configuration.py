"""A configuration of one's own on top of that of transformers, as repositories of models have."""

from pathlib import Path

from gptinit.load.python_file import code_factory

TEXT = """
from torch import nn
from transformers import PretrainedConfig

class MyConfig(PretrainedConfig):
    model_type = "my"

    def __init__(self, dim=64, n_layers=2, **kwargs):
        self.dim, self.n_layers = dim, n_layers
        self.n_heads = kwargs.pop("n_heads", 2)
        super().__init__(**kwargs)

class My(nn.Module):
    def __init__(self, config: MyConfig):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(config.dim, 2) for _ in range(config.n_layers))
"""


def test_its_own_init_says_what_can_be_set_and_not_the_fields_of_its_base(tmp_path: Path) -> None:
    # Defect 3: transformers 5 made the base a dataclass, and its fields were all that was taken.
    (tmp_path / "model.py").write_text(TEXT, encoding="utf-8")

    factory = code_factory(tmp_path / "model.py", "My", {"n_layers": "4", "n_head": 4})

    assert len(factory.build().layers) == 4  # type: ignore[arg-type]
    assert (factory.n_layer, factory.n_embd, factory.n_head) == (4, 64, 4)

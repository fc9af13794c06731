"""Training scripts: read for what they define, while their main body waits."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from gptinit.errors import SubjectError
from gptinit.load.argument import find_factory
from gptinit.load.factory import Factory
from gptinit.load.script import read_script
from gptinit.read.reading import read_model

MODEL = """
import os
import torch
from dataclasses import dataclass
from torch import nn

n_embd, vocab_size = 8, 11
sizes = {"hidden": 4 * n_embd}

@dataclass
class Config:
    width: int = n_embd

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, sizes["hidden"]), nn.Linear(sizes["hidden"], width)
    def forward(self, x):
        return x + self.down(self.up(x).relu())

class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, config.width)
        self.h = nn.ModuleList(Block(config.width) for _ in range(2))
        self.head = nn.Linear(config.width, vocab_size)
    def forward(self, ids):
        x = self.wte(ids)
        for block in self.h:
            x = block(x)
        return self.head(x)
"""
BODY = """
open("ran", "w").close()
data = torch.load(os.environ["DATA_OF_A_CLUSTER"])
model = Model(Config())
optimizer = torch.optim.SGD(model.parameters())
for step in range(100):
    loss = model(data[step]).mean()
    loss.backward()
    optimizer.step()
"""
NOTE = (
    "train.py is a training script: it was read for its imports, classes, functions and "
    "constants, and its main body did not run"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(folder: Path, text: str, name: str = "Model", **settings: object) -> Factory:
    (folder / "train.py").write_text(text, encoding="utf-8")
    return find_factory(f"{folder}/train.py:{name}", settings)


def test_a_training_script_is_read_and_does_not_train(folder: Path) -> None:
    factory = script(folder, MODEL + BODY, width=16)

    reading = read_model(factory)

    assert reading.program.facts.n_layer == 2
    assert reading.program.facts.n_embd == 16
    assert [note.message for note in reading.notes] == [f"{NOTE}."]
    assert not (folder / "ran").exists()


TRAINS = [
    "loss.backward()",
    "while True:\n    loss.backward()",
    "def main():\n    loss.backward()\nmain()",
    "class Trainer:\n    def fit(self):\n        loss.backward()\nTrainer().fit()",
    "class Trainer:\n    def __init__(self):\n        loss.backward()\nTrainer()",
    "from datasets_of_a_hub import load_dataset\ndata = load_dataset('text')",
    "import subprocess\nif not os.path.exists('data'):\n    subprocess.run(['wget', 'data'])",
    "import argparse\nargs = argparse.ArgumentParser().parse_args()",
    "with open('data.pt', 'rb') as file:\n    data = torch.load(file)",
    "while n_head:\n    step(Model(Config()))",
    "import sys\nsys.exit(3)",
    "raise SystemExit(Model(Config()))",
    "if __name__ != '__main__':\n    n_head = 2\nexit()",
]


@pytest.mark.parametrize("body", TRAINS)
def test_what_trains_downloads_or_reads_a_command_line_makes_a_script(
    folder: Path, body: str
) -> None:
    body = body.replace("from datasets_of_a_hub import load_dataset\n", "load_dataset = None\n")

    assert script(folder, f"{MODEL}\n{body}\n").notes()


ORDINARY = [
    "if __name__ == '__main__':\n    Model(Config()).forward(torch.tensor([1])).backward()",
    "def train(model, x):\n    model(x).backward()",
    "registry = {}\nfor name in ('a', 'b'):\n    registry[name] = Config()\nregistry.pop('a')",
    "class Trainer:\n    def fit(self):\n        loss.backward()\ndefault = Config()",
    "import sys\ntry:\n    import json\nexcept ImportError:\n    sys.exit('no json')",
    "if not (__name__ == '__main__' or True):\n    exit()",
    "if __name__ == '__main__' and Config().width:\n    exit()",
    "if __name__ in ('__main__', '__mp_main__'):\n    exit()",
    "import json\nclass Store:\n    def load(self):\n        torch.load('x')\njson.loads('1')",
]


@pytest.mark.parametrize(
    "guard",
    [
        "if __name__ == '__main__':\n    width = 16\nelse:\n    width = 4",
        "if __name__ != '__main__':\n    width = 4",
    ],
)
def test_the_part_of_a_guard_that_runs_on_import_is_part_of_a_script(
    folder: Path, guard: str
) -> None:
    text = MODEL.replace("= n_embd\n", "= 4\n").replace("vocab_size, config", "width, config")

    module = script(folder, f"{text}{guard}\n{BODY}").build()

    assert dict(module.named_parameters())["wte.weight"].shape == (4, 4)


@pytest.mark.parametrize("body", ORDINARY)
def test_an_ordinary_module_runs_as_it_is(folder: Path, body: str) -> None:
    factory = script(folder, f"{MODEL}\n{body}\nopen('ran', 'w').close()\n")

    assert factory.notes() == ()
    assert (folder / "ran").exists()


def test_of_the_main_body_runs_what_the_model_asks_for(folder: Path) -> None:
    text = MODEL.replace("vocab_size = 8, 11", "unused = 8, 0") + (
        "chars = sorted(set('gptinit'))\n"
        "padding = int(os.environ.get('PADDING_OF_NOBODY', 0))\n"
        "if padding:\n    vocab_size = 3\nelse:\n    vocab_size = len(chars)\n"
        "steps = int(os.environ['STEPS_OF_A_CLUSTER'])\n"
    )
    factory = script(folder, text + BODY)

    assert factory.build().head.out_features == 5  # type: ignore[union-attr]
    (note,) = factory.notes()
    first = text[: text.index("chars")].count("\n") + 1
    assert note.message == (
        f"{NOTE}, but for what the model needs of it (lines {first}, {first + 1}, "
        f"{first + 2}-{first + 5})."
    )


def test_tensors_of_the_main_body_belong_to_no_trace(folder: Path) -> None:
    text = MODEL.replace("return self.head(x)", "return self.head(x) + mask") + (
        "with torch.no_grad():\n    mask = torch.zeros(vocab_size)\n"
    )
    factory = script(folder, text + BODY)

    seen = read_model(factory).seen
    logits = factory.build()(torch.arange(3)[None])

    assert seen is not None
    assert type(logits) is torch.Tensor


def test_its_random_numbers_do_not_move_the_draws_of_the_model(folder: Path) -> None:
    text = MODEL.replace("super().__init__()", "super().__init__()\n        noise") + BODY
    factory = script(folder, f"{text}\nnoise = torch.randn(5)\n")

    torch.manual_seed(0)
    first = factory.build()
    torch.manual_seed(0)
    second = factory.build()

    assert torch.equal(first.head.weight, second.head.weight)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "import subprocess\nn_vocab = subprocess.run(['wc', 'data'])\n",
            r"got NameError: name 'n_vocab' is set by the main body of a training script alone, "
            r"which does not run \(train\.py:\d+\)",
        ),
        ("for n_vocab in range(3):\n    pass\n", r"name 'n_vocab' is set by the main body of a "),
        (
            "n_vocab = int(os.environ['VOCAB_OF_A_CLUSTER'])\n",
            r"^train\.py must run line \d+ of its main body, since the model needs what that sets, "
            r"got KeyError: 'VOCAB_OF_A_CLUSTER' \(.*\)\. Set it as its launcher does: VOCAB_OF_A_",
        ),
        (
            "",
            r"^train\.py:Model must build without an error, got NameError: name 'n_vocab' is not ",
        ),
    ],
)
def test_what_the_main_body_cannot_give_is_told_with_its_line(
    folder: Path, body: str, told: str
) -> None:
    text = MODEL.replace("(vocab_size,", "(n_vocab,") + body + BODY

    with pytest.raises(SubjectError, match=told):
        script(folder, text).build()


def test_a_configuration_may_be_a_name_of_the_main_body(folder: Path) -> None:
    text = MODEL + "base = Config(width=int('4'))\ndef make(config=base):\n    return Model(config)"

    module = script(folder, f"{text}\n{BODY}", "make").build()

    assert isinstance(module, nn.Module)
    assert module.wte.weight.shape == (11, 4)  # type: ignore[union-attr]


def test_imports_from_an_added_folder_work(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "lib" / "blocks_of_a_script.py").write_text("WIDTH = 4\n", encoding="utf-8")
    head = "import os, sys\nsys.path.append(os.path.join(os.getcwd(), 'lib'))\n"
    head += "from blocks_of_a_script import WIDTH\n"

    assert script(folder, head + MODEL.replace("int = n_embd", "int = WIDTH") + BODY).build()


@pytest.mark.parametrize(
    ("text", "first", "waiting", "refused"),
    [
        # What only defines runs at once; a docstring, and paths for imports, with it.
        ("'doc'; import os; a = 1; b: int; c: int = 2; a += 1; pass", 7, 0, 0),
        ("import sys; sys.path.insert(0, '.')", 2, 0, 0),
        ("if a:\n    import x\nelse:\n    x = None", 1, 0, 0),
        ("if a:\n    import x\nelse:\n    x = make()", 0, 1, 0),
        ("if a:\n    x = make()\n    y = 1", 0, 1, 0),
        ("try:\n    import x\nexcept ImportError:\n    x = None", 1, 0, 0),
        ("try:\n    import x\nexcept ImportError:\n    x = make()", 0, 1, 0),
        ("try:\n    import x\nfinally:\n    x = make()", 0, 1, 0),
        ("try:\n    import x\nexcept ImportError:\n    raise", 1, 0, 0),
        ("def f():\n    return make()\nclass C:\n    x = 1", 2, 0, 0),
        ("f = lambda: 3", 1, 0, 0),
        # What calls, takes items or only computes waits.
        ("a = make()", 0, 1, 0),
        ("a: int = make()", 0, 1, 0),
        ("a = b[0]", 0, 1, 0),
        ("make()", 0, 1, 0),
        ("assert a", 0, 1, 0),
        ("sys.exit(0)", 0, 1, 0),
        # So does what reads a name that a waiting statement sets, and what else sets it.
        ("a = make()\nb = a\nc = b\nd = 1", 1, 3, 0),
        ("d = c\nc = b\nb = a\na = make()", 0, 4, 0),
        ("a = 1\na = make()", 0, 2, 0),
        ("a = 1\na.x = make()", 0, 2, 0),
        ("a = 1\na.x[0].y = make()", 0, 2, 0),
        ("a = 1\na.add(2)", 0, 2, 0),
        ("a = 1\nmake()", 1, 1, 0),
        ("import a\na.add(2)\nb = a.c", 2, 1, 0),
        ("import x.a\nx.add(2)\nb = x.c", 2, 1, 0),
        ("import x as a\na.add(2)\nb = a.c", 2, 1, 0),
        ("a = make()\nb = lambda: a", 1, 1, 0),
        ("a = make()\ndef b():\n    return a", 1, 1, 0),
        ("if a:\n    make()\n    def f(): b = 1\nb = 1", 1, 1, 0),
        ("if a:\n    make()\n    def f(): pass\nb = f", 0, 2, 0),
        ("if a:\n    make()\n    class f: pass\nb = f", 0, 2, 0),
        # Loops, and what trains or downloads, never run.
        ("for a in b: pass", 0, 1, 1),
        ("while a: pass", 0, 1, 1),
        ("loss.backward()", 0, 1, 1),
        ("if a:\n    loss.backward()", 0, 1, 1),
        ("if a:\n    make()\n    def f(): loss.backward()", 0, 1, 0),
        ("def f():\n    loss.backward()\na = f()\nb = a", 1, 2, 1),
        ("def g():\n    f()\ndef f():\n    loss.backward()\ng()", 2, 1, 1),
        ("class T:\n    def __init__(self): loss.backward()\nT()", 1, 1, 1),
        ("class T:\n    def fit(self): loss.backward()\nT()", 1, 1, 0),
        ("class T:\n    def fit(self): loss.backward()\na.b.fit()", 1, 1, 1),
        ("class T:\n    def fit(self): loss.backward()\nfit()", 1, 1, 0),
        ("if __name__ == '__main__':\n    loss.backward()", 0, 0, 0),
    ],
)
def test_what_of_a_script_runs_at_once_or_late_or_never(
    tmp_path: Path, text: str, first: int, waiting: int, refused: int
) -> None:
    file = tmp_path / "train.py"
    file.write_text(f"{text}\nlast.backward()\n", encoding="utf-8")

    found = read_script(file, nullcontext)

    assert found is not None
    assert (len(found.first), len(found.waiting), len(found.refused)) == (
        first,
        waiting + 1,
        refused + 1,
    )
    assert found.waiting == sorted(found.waiting, key=lambda stmt: stmt.lineno)


@pytest.mark.parametrize("text", ["x = (", "a = make()", "", "def f():\n    loss.backward()"])
def test_what_does_not_train_is_no_script(tmp_path: Path, text: str) -> None:
    file = tmp_path / "model.py"
    file.write_text(text, encoding="utf-8")

    assert read_script(file, nullcontext) is None


def test_a_name_that_trains_in_one_place_comes_from_the_other(folder: Path) -> None:
    text = MODEL.replace("vocab_size = 8, 11", "unused = 8, 0")
    text += "vocab_size = int('7')\nfor vocab_size in range(3):\n    vocab_size.backward()\n"
    factory = script(folder, text + BODY)

    assert factory.build().head.out_features == 7  # type: ignore[union-attr]
    assert factory.build().head.out_features == 7  # type: ignore[union-attr]
    line = text[: text.index("vocab_size = int")].count("\n") + 1
    (note,) = factory.notes()
    assert note.message == f"{NOTE}, but for what the model needs of it (lines {line})."


def test_future_imports_of_a_script_hold_for_all_of_it(folder: Path) -> None:
    text = MODEL.replace("config: Config", "config: Cluster")  # a name that nothing sets

    assert script(folder, f"from __future__ import annotations\n{text}{BODY}").build()


DRAWN = "for p in model.parameters():\n    nn.init.normal_(p, std=0.02)\n"
GUARD = 'if __name__ == "__main__":\n    model = Model(Config())\n    '
FUNCTION = "def prepare(m):\n    nn.init.normal_(m.weight)\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{BODY}{DRAWN}", "nn.init.normal_(p"),
        (f"{FUNCTION}{BODY}model.apply(prepare)\n", "model.apply"),
        (f"{FUNCTION}{BODY}if True:\n    prepare(model.head)\n", "prepare(model"),
        (f"{GUARD}nn.init.zeros_(model.head.weight)\n", "nn.init.zeros_"),
        (f"{FUNCTION}{GUARD}prepare(model.head)\n", "prepare(model"),
    ],
)
def test_weights_that_the_main_body_draws_are_told_with_the_line(
    folder: Path, text: str, shown: str
) -> None:
    """A loop that draws after `model = Model()` went without a word."""
    whole = f"{MODEL}\n{text}"
    line = next(i for i, row in enumerate(whole.splitlines(), 1) if shown in row)

    last = script(folder, whole).notes()[-1]

    assert (last.kind, last.where) == ("approximate", "script")
    assert last.message.startswith(
        f"The main body of train.py draws or fills tensors (train.py:{line}), "
    )


@pytest.mark.parametrize(
    "text",
    [
        f"{BODY}nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        f"{BODY}with torch.no_grad():\n    mask = torch.empty(3).fill_(0)\n",
        f"{GUARD}print(model)\n",
    ],
)
def test_a_main_body_that_draws_no_weights_is_not_accused(folder: Path, text: str) -> None:
    notes = script(folder, f"{MODEL}\n{text}").notes()

    assert not any("draws or fills" in note.message for note in notes)


def test_what_reads_the_one_statement_that_waits_waits_too(folder: Path) -> None:
    text = "size = 3\ndata = torch.load('x')\nrows = data\nmore = rows\nother = size\n"
    (folder / "train.py").write_text(text, encoding="utf-8")

    found = read_script(folder / "train.py", nullcontext)

    assert found is not None
    assert [stmt.lineno for stmt in found.waiting] == [2, 3, 4]
    assert [stmt.lineno for stmt in found.first] == [1, 5]

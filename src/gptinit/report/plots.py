"""A profile as a figure: panels over the layers, for a paper or a README."""

import importlib.util
import io
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptinit.errors import ConfigError
from gptinit.facts.vocabulary import STATISTICS
from gptinit.report.headlines import init_of
from gptinit.report.numbers import plural
from gptinit.results.profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_plot_path", "save_profile_plot"]

_UNDATED = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""File types, and the metadata to leave out so that equal profiles give equal bytes."""

_STYLE: Mapping[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 0.9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.6,
    "savefig.dpi": 200,
    "svg.hashsalt": "gptinit",
}

_COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Blue, vermilion and bluish green: the Okabe-Ito palette, told apart by the colour-blind."""

_MARKERS = ("o", "s", "^")
_MOST_MARKED = 32
"""Layers beyond which markers would touch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    quantity: str
    stats: tuple[str, ...]
    log: bool = False
    unit_interval: bool = False

    @property
    def label(self) -> str:
        units = list(dict.fromkeys(STATISTICS[stat].unit for stat in self.stats))
        return f"{self.quantity} [{units[0]}]" if len(units) == 1 else self.quantity

    def name(self, stat: str) -> str:
        """A line's name: the statistic, with its unit where the axis has none."""
        statistic = STATISTICS[stat]
        return stat if f"[{statistic.unit}]" in self.label else f"{stat} [{statistic.unit}]"


_PANELS = (
    _Panel(
        title="Residual stream and what each layer adds",
        quantity="variance",
        stats=("resid_var", "attn_var", "mlp_var"),
        log=True,
    ),
    _Panel(
        title="Logit lens and attention scores",
        quantity="standard deviation",
        stats=("logit_std", "attn_score_std"),
    ),
    _Panel(
        title="Attention entropy and token similarity",
        quantity="share of maximum",
        stats=("attn_entropy", "token_cosine"),
        unit_interval=True,
    ),
    _Panel(title="Gradient of the stream", quantity="RMS", stats=("grad_rms",), log=True),
)


def check_plot_path(path: str | Path) -> None:
    """Refuse a path that `save_profile_plot` cannot write, before a long run.

    Raises:
        ConfigError: if the file type is unknown, the folder is not there or matplotlib is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in _UNDATED:
        kinds = " or ".join([", ".join([*_UNDATED][:-1]), [*_UNDATED][-1]])
        raise ConfigError(f"plot must be a file ending in {kinds}, got {str(path)!r}.")
    if not path.parent.is_dir():
        raise ConfigError(f"plot must be in a folder that exists, got {str(path)!r}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("plotting needs matplotlib. Install it: pip install 'gptinit[plot]'.")


def save_profile_plot(profile: Profile, path: str | Path) -> None:
    """Draw a profile over its layers and write it all at once.

    Lines are means over seeds, bands one standard error, dashed lines the predictions of theory.
    Panels without numbers are left out; so are numbers that a logarithmic axis cannot show.

    Args:
        profile: the profile.
        path: the file; its suffix (.png, .svg or .pdf) is the file type.

    Raises:
        ConfigError: if the file cannot be written, or matplotlib is missing.
    """
    path = Path(path)
    check_plot_path(path)
    # Loaded here: matplotlib is an extra, and slow to load. The object-oriented way: no pyplot,
    # no backend, and the style of this figure holds only while it is drawn.
    import matplotlib as mpl

    kind = path.suffix.lower()
    picture = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = _figure(profile)
        figure.savefig(picture, format=kind.removeprefix("."), metadata=_UNDATED[kind])
    _write_whole(path, picture.getvalue())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One statistic over the layers; the embedding stands at -1."""

    x: list[int]
    y: list[float]
    low: list[float]
    high: list[float]


def _figure(profile: Profile) -> "Figure":
    """The panels that have data, two in a row, or three if there are three."""
    from matplotlib.figure import Figure

    panels = [panel for panel in _PANELS if any(_line(profile, panel, s).x for s in panel.stats)]
    columns = 3 if len(panels) == 3 else min(2, len(panels))
    rows = math.ceil(len(panels) / columns) if panels else 0
    if not rows:
        raise ConfigError("plot must have a statistic of the layers to draw, got none.")
    figure = Figure(figsize=(4.1 * columns, 0.6 + 2.7 * rows), layout="constrained")
    figure.suptitle("\n".join(_titles(profile)), fontsize=10, parse_math=False)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for panel, axes in zip(panels, grid.flat, strict=True):
        _draw(axes, panel, profile)
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    _mark_layers(grid[0, 0], len(profile.layers))
    return figure


def _titles(profile: Profile) -> tuple[str, str]:
    model, run = profile.model, profile.run
    seeds = plural(run.seeds, "seed")
    bands = " · bands: ± 1 standard error" if run.seeds > 1 else ""
    return (
        f"{model.name} · {init_of(profile)}",
        f"{model.n_layer} layers, {model.n_embd} wide · {seeds}, {run.batch_size} x {run.seq_len} "
        f"tokens of {Path(run.data).name}{bands}",
    )


def _draw(axes: "Axes", panel: _Panel, profile: Profile) -> None:
    crowded, expected = len(profile.layers) > _MOST_MARKED, False
    for stat, colour, marker in zip(panel.stats, _COLOURS, _MARKERS, strict=False):
        line, theory = _line(profile, panel, stat), _line(profile, panel, stat, predicted=True)
        if line.x:
            dot = "" if crowded else marker
            axes.plot(line.x, line.y, dot + "-", color=colour, ms=3.5, label=panel.name(stat))
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.25, linewidth=0)
        if theory.x:
            axes.plot(theory.x, theory.y, "--", color=colour, lw=1.1)
            expected = True
    if expected:
        axes.plot([], [], "--", color="0.3", lw=1.1, label="theory")
    axes.set_title(panel.title, pad=20)
    axes.set_ylabel(panel.label)
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    legend.set_in_layout(False)  # a long one must not narrow the panel
    if panel.log:
        _scale_by_decades(axes)
    elif panel.unit_interval:
        axes.set_ylim(min(-0.03, axes.get_ylim()[0]), 1.03)
    else:
        axes.set_ylim(bottom=0)


def _scale_by_decades(axes: "Axes") -> None:
    """A logarithmic axis; with plain numbers on it where it spans about one decade."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 20:
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "235" else "")


def _line(profile: Profile, panel: _Panel, stat: str, *, predicted: bool = False) -> _Line:
    """The values that can be drawn: finite, and above zero on a logarithmic axis."""
    places = [(i - 1, place) for i, place in enumerate((profile.embedding, *profile.layers))]
    line = _Line(x=[], y=[], low=[], high=[])
    for x, place in places:
        y = (place.predicted if predicted else place.values).get(stat, math.nan)
        if math.isfinite(y) and (y > 0 or not panel.log):
            error = 0.0 if predicted else place.stderr.get(stat, 0.0)
            error = error if math.isfinite(error) else 0.0
            line.x.append(x)
            line.y.append(y)
            line.low.append(y if panel.log and y <= error else y - error)
            line.high.append(y + error)
    return line


def _mark_layers(axes: "Axes", n_layer: int) -> None:
    """Ticks at round layers, and "emb" at the embedding."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    step = next((s for s in steps if n_layer / s <= 8), n_layer)
    ticks = list(range(0 if step == 1 else step, n_layer, step))
    axes.set_xticks([-1, *ticks], ["emb", *map(str, ticks)])


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        ConfigError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"plot must be a file that can be written, got {error}.") from error

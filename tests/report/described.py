"""Figures as text: every line, band, patch, word and limit, so that a stored description shows what a plot lost."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure


def described(figure: Figure) -> str:
    """What the figure contains, a line per artist in the order in which they were added."""
    lines = [f"figure {_numbers(figure.get_size_inches())}: {_quoted(figure.get_suptitle())}"]
    for shown in figure.legends:
        lines.append(f"  legend {_legend(shown)}")
    for axes in figure.axes:
        lines += [f"  {line}" for line in _axes(axes)]
    return "\n".join(lines) + "\n"


def _axes(axes: Axes) -> Iterator[str]:
    titles = " ".join(_quoted(axes.get_title(loc=loc)) for loc in ("left", "center", "right") if axes.get_title(loc))
    yield f"axes {_numbers(axes.get_position().bounds)} {titles}"
    for name, axis, limits in (("x", axes.xaxis, axes.get_xlim()), ("y", axes.yaxis, axes.get_ylim())):
        ticks = [text.get_text() for text in axis.get_ticklabels()]
        yield f"  {name} {axis.get_scale()} {_numbers(limits)} {_quoted(axis.get_label_text())}: {' · '.join(ticks)}"
    for line in axes.lines:
        points = line.get_xydata()
        style = f"{to_hex(line.get_color())} {line.get_linestyle()} {_numbers([line.get_linewidth()])}"
        marker = f"{line.get_marker()} {_numbers([line.get_markersize()])} {line.get_zorder()}"
        yield f"  line {len(points)} points, {_ends(points)}; {style}; {marker}"
    for found in axes.collections:
        colours = sorted({to_hex(colour, keep_alpha=True) for colour in found.get_facecolor()})
        paths = [path.vertices for path in found.get_paths()]
        size = _ends(paths[0]) if paths else ""
        yield f"  {type(found).__name__} of {len(paths)}: {size} {' '.join(colours)} {found.get_alpha()}"
    for patch in axes.patches:
        corners = _numbers(patch.get_extents().transformed(axes.transData.inverted()).bounds)
        yield f"  {type(patch).__name__} {corners} {to_hex(patch.get_facecolor(), keep_alpha=True)}"
    for image in axes.images:
        yield f"  image {image.get_array().shape} {_numbers(image.get_clim())}"
        yield from (f"    {_numbers(row)}" for row in image.get_array())
    for text in axes.texts:
        style = f"{to_hex(text.get_color())} {_numbers([text.get_fontsize()])} {text.get_ha()} {text.get_va()}"
        yield f"  text {_numbers(text.get_position())} {style}: {_quoted(text.get_text())}"
    if (shown := axes.get_legend()) is not None:
        yield f"  legend {_legend(shown)}"


def _legend(legend: object) -> str:
    return " · ".join(text.get_text() for text in legend.get_texts())


def _ends(points: np.ndarray) -> str:
    return f"{_numbers(points[0])} to {_numbers(points[-1])}" if len(points) else "nowhere"


def _numbers(values: object) -> str:
    """To three digits: what a font moves by less does not matter."""
    return "(" + " ".join(f"{float(value) + 0.0:.3g}" for value in np.ma.filled(values, np.nan)) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("\n", " / ") + "'"

"""The panel of input gradients: images as pictures, tables as strips of features."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pipeline.results.read import Results
from pipeline.results.statistics import BASELINE

SIGNED = "RdBu_r"  # diverging and safe for colour-blind eyes; white is 0


def panel(results: Results) -> tuple[Figure, str]:
    return image_panel(results) if results.pictures[BASELINE]["x"].ndim > 2 else table_panel(results)


def image_panel(results: Results) -> tuple[Figure, str]:
    """Rows: the inputs, then every loss. Columns: the same examples."""
    shown = results.pictures[BASELINE]
    count = len(shown["x"])
    figure = Figure(figsize=(1.0 * count + 1.6, 1.12 * (1 + len(results.losses))))
    axes = figure.subplots(1 + len(results.losses), count, squeeze=False)
    for ax, x, y in zip(axes[0], shown["x"], shown["y"], strict=True):
        ax.imshow(natural(x), cmap="gray_r")
        ax.set_title(label(y), fontsize=8, loc="center")
    name_row(axes[0, 0], "input")
    for row, loss in zip(axes[1:], results.losses, strict=True):
        for ax, gradient in zip(row, results.pictures[loss]["gradients"], strict=True):
            signed = channels_first(gradient).sum(0)
            reach = float(np.abs(signed).max()) or 1.0
            ax.imshow(signed, cmap=SIGNED, vmin=-reach, vmax=reach)
            ax.set_title(f"{np.linalg.norm(gradient):.1e}", fontsize=7, color="0.35", loc="center")
        name_row(row[0], loss)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    return figure, (
        "Red pixels raise the loss when they grow, blue ones lower it, white ones do nothing (colour channels are"
        " summed). Every picture has its own symmetric scale, the number above it is ‖g‖₂: compare shapes by eye,"
        " sizes by number."
    )


def channels_first(image: np.ndarray) -> np.ndarray:
    """(C, H, W) of an input of shape (H, W) or (…, C, H, W)."""
    return image.reshape(-1, *image.shape[-2:])


def natural(image: np.ndarray) -> np.ndarray:
    """An input as a picture: (H, W, 3) in [0, 1] for three channels, else (H, W), the mean over channels."""
    channels = channels_first(image)
    if len(channels) != 3:
        return np.asarray(channels.mean(0))
    low, high = min(channels.min(), 0), max(channels.max(), 1)
    return np.asarray((channels - low) / (high - low)).transpose(1, 2, 0)


def label(y: np.ndarray) -> str:
    return f"class {y}" if np.issubdtype(y.dtype, np.integer) else f"target {float(np.ravel(y)[0]):.2g}"


def name_row(ax: Axes, name: str) -> None:
    ax.set_ylabel(name, rotation=0, ha="right", va="center")


def table_panel(results: Results) -> tuple[Figure, str]:
    """A strip for the inputs and one for every loss: a row per feature, a column per example."""
    shown = results.pictures[BASELINE]
    features = list(results.dataset.features) or [str(i) for i in range(shown["x"].shape[1])]
    strips = {"input": shown["x"], **{loss: results.pictures[loss]["gradients"] for loss in results.losses}}
    columns = min(3, len(strips))
    rows = math.ceil(len(strips) / columns)
    figure = Figure(figsize=(2.6 * columns + 1.2, rows * (0.9 + 0.19 * len(features))))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    reach = max(float(np.abs(values).max()) for name, values in strips.items() if name != "input")
    for ax, (name, values) in zip(axes.flat, strips.items(), strict=False):
        own = float(np.abs(values).max()) if name == "input" else reach
        drawn = strip(ax, name, values, own or 1.0)
    axes[0, 0].set_yticks(range(len(features)), features)
    axes[0, 0].set_xticks(range(len(shown["x"])), [str(i) for i in shown["examples"]])
    for ax in axes[-1]:
        ax.set_xlabel("test example")
    for ax in axes.flat[len(strips) :]:
        ax.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="input gradient", shrink=0.6)
    return figure, (
        "A row is a feature, a column an example. Red features raise the loss when they grow, blue ones lower it."
        " All losses share one symmetric scale, the inputs have their own, up to"
        f" ±{np.abs(shown['x']).max():.2g}: paler strips are smaller gradients."
    )


def strip(ax: Axes, name: str, values: np.ndarray, reach: float) -> AxesImage:
    ax.set_title(name)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=8)
    return ax.imshow(values.T, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto")

"""docs/losses/NAME.md, one page per loss, generated from the loss's own file."""

from __future__ import annotations

import inspect
from pathlib import Path

import inputgrad
from inputgrad import files, losses, registry
from inputgrad.losses import ABOUT, Loss

FOLDER = Path("docs") / "losses"


def write(folder: Path = FOLDER) -> list[Path]:
    pages = {folder / f"{name}.md": page(name) for name in registry.names("inputgrad.losses")}
    pages[folder / "README.md"] = index()
    for file, text in pages.items():
        with files.replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(pages)


def page(name: str) -> str:
    loss = losses.load(name)
    module = inspect.getmodule(loss)
    summary = inspect.getdoc(module) or ""
    return "\n".join(
        [
            f"# `{name}`\n",
            f"{summary}\n",
            *paragraphs(loss),
            "## Knobs\n",
            "| knob | default | search range |",
            "|---|---|---|",
            *knobs(loss),
            "",
            "`strength`, `ramp`, `every`, `share`, `on` and `points` are shared by all losses:"
            " see [the index](README.md).\n",
            "## Use\n",
            f"In a study:\n\n```yaml\nlosses:\n  {name}: {example(loss)}\n```\n",
            f"In your own loop:\n\n```python\n{importing(name)}\n",
            f"loss = {loss.__name__}()\nloss(model, x, y{context(name)}).backward()\n```\n",
            "The term alone, times its strength, at any points: `loss.penalty(model, x, y)`. A sum of losses is the"
            " task once, with their terms: [concepts](../concepts.md).\n",
            f"For: {' and '.join(loss.tasks)}. Code: "
            f"[`inputgrad/losses/{name}.py`](../../inputgrad/losses/{name}.py)\n",
        ]
    )


def paragraphs(loss: type[Loss]) -> list[str]:
    """The docstring: its first paragraph, which holds the formula, set apart from the rest."""
    formula, _, rest = ABOUT[loss].partition("\n\n")
    quoted = "\n".join(f"> {line}" for line in formula.splitlines())
    return [f"{quoted}\n", *([f"{rest}\n"] if rest else [])]


def knobs(loss: type[Loss]) -> list[str]:
    shared = set(Loss.model_fields) - {"strength"}
    rows = []
    for name, field in loss.model_fields.items():
        if name not in shared:
            found = loss.search.get(name)
            where = f"{found.low:g} to {found.high:g}{', log' if found.log else ''}" if found else "-"
            rows.append(f"| `{name}` | `{field.default}` | {where} |")
    return rows


def example(loss: type[Loss]) -> str:
    return "{}" if loss.__name__ == "Standard" else f"{{strength: {loss.model_fields['strength'].default:g}}}"


def context(name: str) -> str:
    """The context of the example: what the loss cannot do without, under its own name."""
    needs = losses.load(name).needs
    of_data = [f"{need}={need}" for need in needs if need in ("direction", "mask")]
    of_each = ", ".join(f'"{need}": {need}' for need in needs if need not in ("direction", "mask"))
    given = [*of_data, *([f"examples={{{of_each}}}"] if of_each else [])]
    return f", Context({', '.join(given)})" if given else ""


def importing(name: str) -> str:
    """The import line of the example; only the library's own losses have a name at its top."""
    loss = losses.load(name)
    if loss.__name__ not in inputgrad.__all__:
        return f"from {loss.__module__} import {loss.__name__}"
    return f"from inputgrad import {'Context, ' if loss.needs else ''}{loss.__name__}"


def index() -> str:
    rows = [
        f"| [`{n}`]({n}.md) | {inspect.getdoc(inspect.getmodule(losses.load(n))) or ''} |"
        for n in registry.names("inputgrad.losses")
    ]
    shared = (inspect.getdoc(Loss) or "").partition("strength: ")[2]
    lines = [
        f"- `{line.partition(':')[0]}`:{line.partition(':')[2]}" for line in f"strength: {shared}".splitlines() if line
    ]
    return "\n".join(
        [
            "# The losses\n",
            "Generated from the files in `inputgrad/losses/` by `python -m pipeline docs`.\n",
            "| loss | what it does |",
            "|---|---|",
            *rows,
            "",
            "## Knobs that all of them have\n",
            *lines,
            "",
            "Total = c · mean(l_i) + strength · mean(term_i), one joint backward. A term is computed per example and",
            "then averaged, so that a strength means the same at every batch size.\n",
        ]
    )

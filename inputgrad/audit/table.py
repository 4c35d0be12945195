"""An audit as plain text: the table, the verdict, and what to write instead."""

from __future__ import annotations

import textwrap

from inputgrad.audit import Audit

WIDTH = 100
"""Of the table; a longer figure goes on in the next line."""
STATES = {True: "ok", False: "FAILS", None: "-"}


def text(found: Audit) -> str:
    """The rows, the verdict, the explanation."""
    names = max(len(row.name) for row in found.rows)
    width = WIDTH - names - len("  FAILS  ")
    lines = [f"called as {found.called}", ""]
    for row in found.rows:
        figure = textwrap.wrap(row.figure, width)
        lines.append(f"{row.name:{names}}  {STATES[row.ok]:5}  {figure[0]}")
        rest = figure[1:] + (textwrap.wrap(f"({row.why})", width) if row.ok is False else [])
        lines += [" " * (WIDTH - width) + line for line in rest]
    lines += ["", *textwrap.wrap(found.verdict, WIDTH)]
    return "\n".join([*lines, "", found.explanation] if found.explanation else lines)

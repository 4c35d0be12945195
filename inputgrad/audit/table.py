"""An audit as plain text: the table, the verdict, and where the gradient was a constant, what to write instead."""

from __future__ import annotations

import textwrap

from inputgrad.audit import EXPLANATION, Audit

WIDTH = 100
"""Of the table; a longer figure goes on in the next line."""


def text(title: str, found: Audit) -> str:
    names = max(len(check.name) for check in found.checks)
    width = WIDTH - names - len("  FAILS  ")
    lines = [f"audit of {title}", ""]
    for check in found.checks:
        figure = textwrap.wrap(check.figure, width)
        lines.append(f"{check.name:{names}}  {'ok   ' if check.ok else 'FAILS'}  {figure[0]}")
        rest = figure[1:] + ([] if check.ok else textwrap.wrap(f"({check.why})", width))
        lines += [" " * (WIDTH - width) + line for line in rest]
    lines += ["", found.verdict]
    return "\n".join([*lines, "", EXPLANATION] if found.kind == "detached" else lines)

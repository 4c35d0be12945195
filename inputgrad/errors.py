"""The one error a user is meant to read: a sentence that names the file, the key and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Ends the command with exit code 2 and this one line, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean 'x'?)' when a known name is close, else the list of known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else "there is none"

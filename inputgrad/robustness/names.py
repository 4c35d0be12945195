"""The names of weights in a file against those of a model: a wrapper around the net puts a prefix in front of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inputgrad.errors import UserError

INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of a name that PyTorch's own wrappers put anywhere in it, around a part of a net too."""
SHOWN = 3


def fitted(wanted: Sequence[str], given: Sequence[str], file: str) -> tuple[dict[str, str | None], list[str]]:
    """What each name of the file is in the model, None where it belongs to something else; and what is said about it.

    A prefix is left out or put in front where all names of the model are then there, and no other begins like them.
    Where nothing fits, the names are those after the change that fits best, for what is missing to be named rightly.

    Raises:
        UserError: the file holds several nets that fit.
    """
    if set(wanted) == set(given) or not wanted:
        return {}, []
    bare_wanted, bare_given = ({without(name): name for name in names} for names in (wanted, given))
    found = {change: used(change, bare_wanted, bare_given) for change in changes([*bare_wanted], [*bare_given])}
    whole = {change: names for change, names in found.items() if len(names) == len(bare_wanted)}
    if len(set(whole.values())) > 1 and ("", "") not in whole:  # two changes may be one and the same
        shown = " and ".join(f"'{start}'" for start in sorted({start for start, _ in whole})[:SHOWN])
        raise UserError(f"{file} holds several nets that fit, under {shown}; fix: save the state_dict() of one of them")
    best = max(found, key=lambda change: (len(found[change]), change == ("", "")))
    if not found[best]:
        return {}, []
    left_out, put = best
    names: dict[str, str | None] = {}
    others = []
    for name in given:
        bare = without(name)
        if bare.startswith(left_out):
            key = put + bare.removeprefix(left_out)
            names[name] = bare_wanted.get(key, key)
        elif best in whole:
            others.append(name)
            names[name] = None
    return names, said(best, others, names)


def without(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in INSIDE)


def changes(wanted: list[str], given: list[str]) -> Iterator[tuple[str, str]]:
    """(what is left out of the file's names, what is put in front of them), every pair that makes one name fit."""
    yield "", ""
    for put in prefixes(wanted):
        one = wanted[0].removeprefix(put)
        for left_out in dict.fromkeys(name.removesuffix(one) for name in given if f".{name}".endswith(f".{one}")):
            yield left_out, put


def prefixes(names: list[str]) -> Iterator[str]:
    """'' and what all names begin with, up to a dot."""
    yield ""
    parts = names[0].split(".")[:-1]
    for count in range(1, len(parts) + 1):
        start = ".".join(parts[:count]) + "."
        if not all(name.startswith(start) for name in names):
            return
        yield start


def used(change: tuple[str, str], wanted: dict[str, str], given: dict[str, str]) -> frozenset[str]:
    """The names of the file that are names of the model after the change."""
    left_out, put = change
    return frozenset(n for n in given if n.startswith(left_out) and put + n.removeprefix(left_out) in wanted)


def said(change: tuple[str, str], others: list[str], names: dict[str, str | None]) -> list[str]:
    """What was done to the names, in words."""
    left_out, put = change
    kept = [(name, key) for name, key in names.items() if key is not None]
    found = []
    if left_out:
        found.append(f"the names in the file begin with '{left_out}', which was left out")
    if put:
        found.append(f"'{put}' was put in front of the names in the file")
    for part in INSIDE:
        before, after = (any(part in text.split(".") for text in texts) for texts in zip(*kept, strict=True))
        if before != after:
            found.append(f"'{part}.' in the names was {'left out' if before else 'added'}")
    if others:
        more = ", …" if len(others) > SHOWN else ""
        found.append(f"{len(others)} that begin otherwise were left out ({', '.join(others[:SHOWN])}{more})")
    return found

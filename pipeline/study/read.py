"""experiments/NAME.yaml -> a study. Every error names the file, the key and the nearest valid name, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from inputgrad import losses, registry
from inputgrad.errors import UserError, nearest
from inputgrad.losses import Loss
from inputgrad.losses._sum import Sum
from pipeline import layout
from pipeline.study import checks
from pipeline.study.schema import Study
from pipeline.study.validation import named, read_yaml, validated


def read_study(name: str) -> Study:
    """The study of that name, checked against the code and the data set it uses."""
    file = layout.study_file(named("study", name))
    if not file.exists():
        known_studies = [f.stem for f in layout.study_files()]
        raise UserError(f"{file} is missing: no study '{name}'; {nearest(name, known_studies)}")
    raw = read_yaml(file)
    for key in ("data", "model"):
        if isinstance(raw.get(key), dict):
            raw[key] = options(file, key, raw[key])
    for section, key in checks.ATTACKS:
        for attack, given in nested(raw, section, key).items():
            use, knobs = use_and_knobs(given)
            module = checks.part(file, f"{section}.{key}", attack, use, checks.attack)
            validated(settings_of(file, module.perturb), knobs, file, f"{section}.{key}.{attack}")
    uses = dict(uses_of(nested(raw, "losses")))
    if isinstance(raw.get("losses"), dict):
        raw["losses"] = {n: one_loss(file, n, given) for n, given in raw["losses"].items()}
    study = validated(Study, {"name": name, **raw}, file).using(uses)
    checks.check(study)
    return study


def nested(raw: Any, *keys: str) -> dict[str, Any]:
    """The mapping below `keys`, empty where there is none: what has the wrong type is reported by its model."""
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def use_and_knobs(given: Any) -> tuple[Any, Any]:
    if not isinstance(given, dict):
        return None, {} if given is None else given
    return given.get("use"), {key: value for key, value in given.items() if key != "use"}


def options(file: Path, key: str, raw: dict[str, Any]) -> dict[str, Any]:
    """`data:` or `model:` of a study, with the defaults of the function it names filled in."""
    if "name" not in raw:
        raise UserError(f"{file}: {key}.name is missing; {nearest('', registry.names(PACKAGES[key]))}")
    name, use = raw["name"], raw.get("use")
    if key == "data":
        function = checks.part(file, "data.name", name, use, checks.data_set).load
    else:
        function = checks.part(file, "model.name", name, use, checks.model)
    chosen = validated(settings_of(file, function), registry.options(raw), file, key).model_dump(mode="json")
    if use is None:
        refuse_numbers(file, key, chosen)
    return {"name": name, **({} if use is None else {"use": use}), **chosen}


def refuse_numbers(file: Path, key: str, chosen: dict[str, Any]) -> None:
    """Raise a UserError for a number that one of our data sets or nets cannot be made with."""
    for option, value in chosen.items():
        values = value if isinstance(value, list) else [value]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        least = 0 if key == "data" else 1
        if wrong := [v for v in numbers if not least <= v < LARGEST_NUMBER]:
            raise UserError(f"{file}: {key}.{option}: {wrong[0]:g} is not between {least} and {LARGEST_NUMBER:g}")
    if (shares := chosen.get("shares")) and (abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0):
        raise UserError(f"{file}: {key}.shares: {shares} must be three positive numbers that sum to 1")


LARGEST_NUMBER = 2**31
"""No seed, width or count may be as large."""
PACKAGES = {"data": "pipeline.data", "model": "pipeline.models"}


def settings_of(file: Path, function: Any) -> type[BaseModel]:
    try:
        return registry.settings_of(function)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def uses_of(losses: dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """The losses of one's own, and the terms of one's own in a sum, as `sum.term`, each with its `use`."""
    for name, given in losses.items():
        if use := use_and_knobs(given)[0]:
            yield f"{where}{name}", str(use)
        yield from uses_of(nested(given, "terms"), f"{name}.")


def one_loss(file: Path, name: Any, given: Any) -> Loss:
    use, knobs = use_and_knobs(given)
    if nested(given, "terms") and use is None:
        named(f"{file}: losses", name)
        terms = {term: one_loss(file, term, one) for term, one in given["terms"].items()}
        return validated(Sum, {**knobs, "terms": terms}, file, f"losses.{name}")
    return validated(checks.part(file, "losses", name, use, losses.load), knobs, file, f"losses.{name}")

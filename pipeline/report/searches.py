"""What the searches of a study found, from their search.json: on the validation split, with one seed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.fingerprint import flattened
from pipeline.report.units import score
from pipeline.results.statistics import Estimate
from pipeline.study.checks import listed
from pipeline.study.schema import Study

FIGURES = {
    "front": "Clean and robust validation score of every trial, with the front and the limit",
    "history": "Robust validation score of every trial in turn, and the best so far",
    "slice": "Robust validation score against every knob",
    "importance": "Importance of the knobs",
}
"""File and text of the pictures; `importance` is there for two knobs or more."""


def section(study: Study, losses: list[str]) -> dict[str, Any] | None:
    """The words of the section, or None where no reported loss was searched for one objective."""
    files = {loss: layout.search(study.name, loss) / layout.SEARCH for loss in losses}
    found = {
        loss: read_search(file, f"python -m pipeline search {study.name} {loss}")
        for loss, file in files.items()
        if file.exists()
    }
    if not found:
        return None
    return {
        "budget": budget(found),
        "judged": judged(study, found),
        "rows": [row(study, loss, facts) for loss, facts in found.items()],
        "pictures": {loss: pictures(layout.search(study.name, loss)) for loss in found},
    }


def read_search(file: Path, command: str) -> dict[str, Any]:
    """A search.json; the same search writes it anew from its trials."""
    facts: dict[str, Any] = store.read_json(file, f"delete it, then: {command}")
    try:
        _ = facts["settings"]["judges"], facts["seed_of_the_trials"], (facts["best"] or {"at_edge": []})["at_edge"]
    except KeyError as error:
        raise UserError(f"{file} is of another version and lacks {error}; write it anew: {command}") from error
    return facts


def budget(found: dict[str, dict[str, Any]]) -> str:
    budgets = {loss: (facts["trials"]["asked"], facts["epochs"]["per_trial"]) for loss, facts in found.items()}
    if len(set(budgets.values())) == 1:
        trials, epochs = next(iter(budgets.values()))
        return f"Every searched loss got the same budget: {trials} trials of {epochs} epochs each."
    stated = ", ".join(f"`{loss}` {trials} trials of {epochs} epochs" for loss, (trials, epochs) in budgets.items())
    return f"The losses did not get the same budget, so that the larger ones are favoured: {stated}."


def judged(study: Study, found: dict[str, dict[str, Any]]) -> str:
    judges = {loss: listed(facts["settings"]["judges"]) for loss, facts in found.items()}
    said = next(iter(judges.values()))
    if len(set(judges.values())) > 1:
        said = "attacks that differ: " + "; ".join(f"`{loss}` {each}" for loss, each in judges.items())
    seeds = sorted({facts["seed_of_the_trials"] for facts in found.values()})
    shared = [seed for seed in seeds if seed in study.training.seeds]
    which = (
        f"seed {', '.join(map(str, seeds))}, which {'this report has too' if shared else 'no run of this report has'}"
    )
    others = {loss: other for loss, facts in found.items() if (other := moved_on(study, loss, facts["settings"]))}
    older = "".join(
        f" The search of `{loss}` was for another study: its {other} is not that of now."
        for loss, other in others.items()
    )
    return (
        f"A trial is judged on the validation split under {said}, with {which}; the test split was not opened.{older}"
    )


def moved_on(study: Study, loss: str, settings: dict[str, Any]) -> str:
    """The first setting of a search that the study has no longer: what was found then need not be good now."""
    training = study.training.model_dump(mode="json", exclude={"device", "seeds"})
    knobs = {name: value for name, value in study.stated(loss).items() if name in settings["loss"]}
    now = {
        "data": study.data,
        "model": study.model,
        "training": training | {"epochs": study.search.epochs or study.training.epochs},
        "loss": {"name": loss, **knobs},
        "attack": {"norm": study.attack.norm, "epsilon": study.attack.epsilon},
        "max_clean_drop": study.search.max_clean_drop,
    }
    then = {**settings, "training": {k: v for k, v in settings["training"].items() if k != "seeds"}}
    there, here = (dict(flattened({key: part[key] for key in now})) for part in (then, now))
    return next((key for key in {**here, **there} if here.get(key) != there.get(key)), "")


def row(study: Study, loss: str, facts: dict[str, Any]) -> dict[str, str]:
    measure, best, trials, epochs = score(study.task), facts["best"], facts["trials"], facts["epochs"]
    cells = {
        "loss": loss,
        "trials": f"{trials['finished']} of {trials['asked']}, {trials['pruned']} pruned",
        "epochs": f"{epochs['used']} of {epochs['budget']}",
        "best": "none meets the constraint",
        "clean": "-",
        "robust": "-",
        "stated": "-",
    }
    if best is None:
        return cells
    shown = {key: measure.value(Estimate(best[key], None, None, 1)) for key in ("clean", "robust")}
    stated = all(getattr(study.loss(loss), name) == value for name, value in best["knobs"].items())
    ends = {name: " (at an end of its range)" for name in best["at_edge"]}
    knobs = ", ".join(f"{name} {value:g}{ends.get(name, '')}" for name, value in best["knobs"].items())
    return cells | shown | {"best": knobs, "stated": "yes" if stated else "no"}


def pictures(folder: Path) -> list[dict[str, str]]:
    files = {folder / f"{name}.png": text for name, text in FIGURES.items()}
    return [
        {"text": text, "source": f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"}
        for file, text in files.items()
        if file.exists()
    ]

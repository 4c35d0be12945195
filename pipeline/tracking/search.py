"""A search in MLflow: a parent run, a child per finished trial. It is told from the search's files alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline import layout, store
from pipeline.fingerprint import hash_of
from pipeline.study.checks import listed
from pipeline.study.schema import Study
from pipeline.tracking.live import EVERY, repeating
from pipeline.tracking.server import Point, reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = """Searches of the study `{study}`. Made from `experiments/{study}/search/` and safe to delete:
`python -m pipeline track` makes it again. Every score here is taken on the **validation** split.

- A run per search; open it with **+** to see a run per trial. Mark some and choose *Compare* for parallel coordinates.
- `tags.kind = "search"` in the search box leaves a row per search.
- `tags.state = "complete"` in the search box hides trials that were pruned.
"""
NO_SCORE = {"clean": None, "robust": None}


@contextmanager
def following(folder: Path, every: float = EVERY) -> Iterator[None]:
    """Mirror a search while the block runs, and once more at its end; a failure is one line and no exception."""
    complaints: set[str] = set()

    def update(status: str) -> None:
        try:
            if (folder / layout.SEARCH).exists():
                mirror(folder, status)
        except Exception as error:
            if not complaints:
                again = "the search goes on, and its files are safe; later: python -m pipeline track"
                print(f"note: not followed in MLflow ({reason(error)}); {again}", file=sys.stderr)
            complaints.add(reason(error))

    with repeating(update, every):
        yield


def mirror(folder: Path, status: str | None = None) -> None:
    """Bring MLflow up to what a search's folder holds. `status` of the search: by default, whether it is complete."""
    from pipeline.tracking import server
    from pipeline.tracking.server import Mirror, Wanted

    facts = store.read_json(folder / layout.SEARCH, f"write it again with: python -m pipeline search (in {folder})")
    status = status or ("FINISHED" if facts["trials"]["finished"] >= facts["trials"]["asked"] else "KILLED")
    trials, rungs = (pd.read_csv(folder / f"{name}.csv") for name in ("trials", "looks"))
    started, ended = milliseconds(trials["started"].min()), milliseconds(trials["ended"].max())
    with server.connected() as client:
        where = experiment(client, facts)
        wanted = Wanted(
            kind="search",
            name=facts["loss"] if facts["objective"] == "robust" else f"{facts['loss']} ({facts['objective']})",
            fingerprint=hash_of([facts["fingerprint"], facts["objective"]]),
            started=started,
        )
        parent = Mirror.of(client, where, wanted)
        known = already(client, where, parent.id)
        for _, row in trials.iterrows():
            if str(row["trial"]) not in known:
                child(
                    client,
                    where,
                    parent.id,
                    facts,
                    {str(k): v for k, v in row.dropna().items()},
                    rungs[rungs["trial"] == row["trial"]],
                )
        parent.log(parameters=settings(facts))
        parent.log(Point(name, value, ended, len(trials)) for name, value in headline(facts).items())
        if status != "RUNNING":
            for file in [*sorted(folder.glob("*.png")), *sorted(folder.glob("*.csv")), folder / layout.SEARCH]:
                client.log_artifact(parent.id, str(file))
        if parent.run.info.status == "FINISHED" and len(known) < len(trials):
            client.update_run(parent.id, status="RUNNING")  # a search that is continued
            parent.run.info._status = "RUNNING"
        parent.set_status(status, ended)


def folders(study: Study) -> list[Path]:
    return [file.parent for file in layout.searches(study.name)]


def milliseconds(moment: str) -> int:
    return int(1000 * datetime.fromisoformat(moment).timestamp())


def experiment(client: MlflowClient, facts: dict[str, Any]) -> str:
    """STUDY-search, separate from the study's own: hundreds of trials would hide its runs."""
    from pipeline.tracking import server
    from pipeline.tracking.contents import VIEW_TAG

    columns = [f"params.`{name}`" for name in ("strength", "epsilon")]
    columns += [f"metrics.`{name}`" for name in ("clean", "robust", "epochs", "best_robust")]
    view = {"searchFilter": "", "orderByAsc": True, "selectedColumns": columns}
    tags = {
        "mlflow.note.content": NOTE.format(study=facts["study"]),
        "mlflow.experimentKind": "custom_model_development",
        VIEW_TAG: json.dumps(view),
    }
    return server.experiment_id(client, f"{facts['study']}-search", tags)


def already(client: MlflowClient, where: str, parent: str) -> set[str]:
    found = client.search_runs([where], f"tags.mlflow.parentRunId = '{parent}'", max_results=50_000)
    return {run.data.tags["trial"] for run in found if run.info.status == "FINISHED"}


def child(
    client: MlflowClient, where: str, parent: str, facts: dict[str, Any], row: dict[str, Any], rungs: pd.DataFrame
) -> None:
    from pipeline.tracking.server import Mirror, Wanted

    knobs = list(facts["settings"]["ranges"])
    number = str(row["trial"])
    start, end = milliseconds(row["started"]), milliseconds(row["ended"])
    wanted = Wanted(
        kind="trial",
        name=f"trial-{number}",
        fingerprint=hash_of([facts["fingerprint"], facts["objective"], number]),
        parent=parent,
        started=start,
    )
    run = Mirror.of(client, where, wanted)
    run.tag({"trial": number, "state": row["state"], "meets_constraint": str(row.get("meets_constraint", ""))})
    run.log(
        [
            *(Point(n, rung[n], end, int(rung["epoch"])) for _, rung in rungs.iterrows() for n in ("clean", "robust")),
            *(Point(name, float(row[name]), end) for name in ("epochs", "seconds")),
        ],
        {"loss": facts["loss"], "study": facts["study"], **{name: str(row[name]) for name in knobs}},
    )
    run.set_status("FINISHED", end)


def settings(facts: dict[str, Any]) -> dict[str, str]:
    told = facts["settings"]
    return {
        "loss": facts["loss"],
        "study": facts["study"],
        "objective": facts["objective"],
        "epochs_per_trial": str(facts["epochs"]["per_trial"]),
        "seed_of_the_trials": str(facts["seed_of_the_trials"]),
        **{f"range.{name}": f"{low:g} to {high:g}" for name, (low, high, _) in told["ranges"].items()},
        **{f"sampler.{key}": str(value) for key, value in told["sampler"].items()},
        "attack": f"{listed(told['judges'])}, {told['attack']['norm']} ε = {told['attack']['epsilon']:g}",
        "max_clean_drop": str(told["max_clean_drop"]),
    }


def headline(facts: dict[str, Any]) -> dict[str, float]:
    best = facts["best"] or {}
    found = {
        "best_robust": best.get("robust"),
        "best_clean": best.get("clean"),
        **{f"best_{name}": value for name, value in best.get("knobs", {}).items()},
        **{f"standard_{name}": value for name, value in (facts["standard"] or NO_SCORE).items()},
        "finished": facts["trials"]["finished"],
        "pruned": facts["trials"]["pruned"],
        "epochs": facts["epochs"]["used"],
    }
    return {name: float(value) for name, value in found.items() if value is not None}

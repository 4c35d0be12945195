"""What goes into MLflow, and under which words: the runs of a loss, and the report of a study."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.fingerprint import hash_of, hash_of_file
from pipeline.results.opened import OpenStudy
from pipeline.study.schema import Study
from pipeline.tracking import current, search, server
from pipeline.tracking.pictures import gradient_picture
from pipeline.tracking.results import LossFolder, SeedFolder, loss_fingerprint, metric, parameters
from pipeline.tracking.server import Mirror, Point, Wanted, milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_NOTE = """Study `{name}`: {task} on `{data}` with the net `{model}`.
Made from `{folder}/` and safe to delete: `python -m pipeline track` makes it again.

- The best run comes first. A run per loss holds the **means over its seeds**: sort by *Created*, and **+** opens it to
  show a run per seed. The chart symbol above the table compares the losses.
- `tags.current = "true"` in the search box hides runs whose settings the study no longer has.
- `tags.kind = "seed"`, grouped by `loss`, draws a band per loss (the link "bands" of `make ui`); `tags.kind = "loss"` a
  line per loss.
- Steps are epochs. In `robust_…/NORM_1000_epsilon` a step is 1000·ε. Robust is the worst case over all attacks.
- The tag `masking` says whether a robust score can be trusted: ok, or the checks of the masking sheet that it fails.
- `clean_…` and `robust_…` are taken on the test split, the latter at {norm} ε = {epsilon:g}; `input_gradient_norm` is
  taken on the validation split, `test_input_gradient_norm` and all other `test_…` on the clean test split.
"""
LOSS_NOTE = "`{loss}`: means over its seeds. The model is that of the seed with the best validation score."
HEADLINE = ("clean_{}", "robust_{}", "test_input_gradient_norm", "step_time_ratio")
"""The columns of the table that the UI opens with."""
VIEW_TAG = "mlflow.sharedViewState.losses"
"""Where the UI keeps a shared view; `?viewStateShareKey=losses` opens it."""
BANDS_TAG = "mlflow.sharedViewState.bands"
"""Another one: charts of the seeds, grouped by loss, so that each loss is a line with a band."""
REPORT_NOTE = "The page is `report.html` under *Artifacts*; its intervals stand next to the means of the losses."
SEED_NOTE = "`{loss}`, seed {seed}."


def experiment(client: MlflowClient, study: Study) -> str:
    note = STUDY_NOTE.format(
        name=study.name,
        task=study.task.name,
        data=study.data["name"],
        model=study.model["name"],
        folder=study.folder,
        norm=study.attack.norm,
        epsilon=study.attack.epsilon,
    )
    # MLflow's own order is fixed: data set and model would push the scores out of sight
    columns = [f"metrics.`{name.format(study.task.key)}`" for name in HEADLINE]
    columns += [f"params.`{name}`" for name in ("loss", "strength", "seed")] + ["tags.`masking`"]
    best_first = {"orderByKey": columns[1], "orderByAsc": study.task.better < 0}
    view = {"searchFilter": "tags.current = 'true'", **best_first, "selectedColumns": columns}
    seeds = "tags.current = 'true' and tags.kind = 'seed'"
    by_loss = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "loss"}]}
    bands = {"searchFilter": seeds, **best_first, "selectedColumns": columns, "groupBy": by_loss}
    tags = {
        "mlflow.note.content": note,
        BANDS_TAG: json.dumps(bands),
        "mlflow.experimentKind": "custom_model_development",
        current.TAG: "",
        VIEW_TAG: json.dumps(view),
    }
    return server.experiment_id(client, study.name, tags)


def of_loss(name: str, fingerprint: str, attack: str | None = None, started: int | None = None) -> Wanted:
    return Wanted(
        kind="loss",
        name=name,
        fingerprint=fingerprint,
        attack_fingerprint=attack,
        started=started,
        note=LOSS_NOTE.format(loss=name),
    )


def of_seed(
    loss: str, seed: int, fingerprint: str, parent: str, attack: str | None = None, started: int | None = None
) -> Wanted:
    return Wanted(
        kind="seed",
        name=f"{loss}-seed-{seed}",
        fingerprint=fingerprint,
        attack_fingerprint=attack,
        parent=parent,
        started=started,
        note=SEED_NOTE.format(loss=loss, seed=seed),
    )


def mirror_study(opened: OpenStudy, wanted: str) -> None:
    """Mirror everything of a study that is of it as it stands, and nothing else as current.

    Args:
        opened: the study whose folders are read.
        wanted: what `current.published` gave before.

    Raises:
        UserError: a folder is damaged or incomplete; the others are shown.
    """
    shown: set[str] = set()
    errors: list[UserError] = []
    for name in opened.study.losses:
        try:
            shown |= mirror_loss(opened, name)
        except store.ForeignError:  # made from something else than the study states now: not current
            continue
        except UserError as error:
            errors.append(error)
    with suppress(UserError):  # a report that is older than the results is not shown as theirs
        shown |= mirror_report(opened)
    complete(opened, shown, "" if errors else wanted)
    if errors:
        raise errors[0]


def complete(opened: OpenStudy, shown: set[str], wanted: str) -> None:
    """After losses and report of a study, whose runs are `shown`: its searches, and an end to what is past."""
    for folder in search.folders(opened.study):
        search.mirror(folder)
    with server.connected() as client:
        where = experiment(client, opened.study)
        known = stated(opened)
        others = client.search_runs([where], "tags.current = 'true'", max_results=50_000)
        past = (run for run in others if run.data.tags["fingerprint"] not in known)
        server.mark(client, [run for run in past if run.info.run_id not in shown], now=False)
        client.set_experiment_tag(where, current.TAG, wanted)


def stated(opened: OpenStudy) -> set[str]:
    """The fingerprints of all trainings that a study states: one that is not published may be under way."""
    study = opened.study
    of_seeds = {
        name: [opened.origin("train", name, seed).fingerprint for seed in study.training.seeds] for name in study.losses
    }
    return {one for several in of_seeds.values() for one in (*several, loss_fingerprint(several))}


def mirror_loss(opened: OpenStudy, name: str) -> set[str]:
    """Mirror the folders of one loss; the runs that show it now, none if there are no folders."""
    loss, study = LossFolder(opened, name), opened.study
    if not loss.seeds:
        return set()
    started, ended = min(seed.started for seed in loss.seeds), max(seed.ended for seed in loss.seeds)
    with server.connected() as client:
        from pipeline.tracking import model

        where = experiment(client, study)
        above = Mirror.of(client, where, of_loss(name, loss.fingerprint, loss.attack_fingerprint, started))
        below = [mirror_seed(client, where, above.id, seed) for seed in loss.seeds]
        with above.once("attack" if loss.attack_fingerprint else "train") as fresh:
            if fresh:
                above.log(loss.points, parameters(loss.facts))
                above.tag(loss.audit)
                log_data(client, above.id, study)
                client.log_artifacts(above.id, str(loss.measured), "measured")
        above.tag(loss.sheet)
        above.set_status("FINISHED", ended)
        server.keep_current(client, where, f"params.loss = '{name}'", {above.id, *below})
        with above.once("model") as fresh:  # last: if a net cannot be traced, all else is there
            if fresh:
                above.tag({"model": model.mirror(client, above.run, loss)})
        if loss.attack_fingerprint:
            with above.once("scores") as fresh:
                if fresh:
                    best = loss.seeds.index(model.best_of(loss))
                    model.score(client, above.run.data.tags["model"], below[best], loss.seeds[best].outcome)
    return {above.id, *below}


def mirror_seed(client: MlflowClient, where: str, parent: str, seed: SeedFolder) -> str:
    wanted = of_seed(seed.loss, seed.seed, seed.fingerprint, parent, seed.attack_fingerprint, seed.started)
    run = Mirror.of(client, where, wanted)
    with run.once("train") as fresh:
        if fresh:
            run.log([*seed.history, *seed.best], parameters(seed.facts))
            log_data(client, run.id, seed.study)
            client.log_artifacts(run.id, str(seed.train), "train")
            log_pictures(client, run.id, seed)
    if seed.attack:
        with run.once("attack") as fresh:
            if fresh:
                run.log(seed.outcome)
                client.log_artifacts(run.id, str(seed.attack), "attack")
        run.tag(seed.sheet)
    run.set_status("FINISHED", seed.ended)
    return run.id


def log_data(client: MlflowClient, run_id: str, study: Study) -> None:
    """The data file of the study as the run's input, with the start of its hash as digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    file = layout.data(study.name)
    source = json.dumps({"uri": file.as_posix()})
    found = Dataset(study.data["name"], hash_of_file(file)[:36], "local", source, profile=json.dumps(study.data))
    client.log_inputs(run_id, [DatasetInput(found, [InputTag("mlflow.data.context", "train, validation, test")])])


def log_pictures(client: MlflowClient, run_id: str, seed: SeedFolder) -> None:
    there = [file.path for file in client.list_artifacts(run_id, "images")]
    with np.load(seed.train / layout.GRADIENTS, allow_pickle=False) as contents:
        for epoch, gradients in zip(contents["epochs"], contents["gradients"], strict=True):
            if not any(f"+step+{epoch}+" in path for path in there):
                picture = gradient_picture(contents["x"], gradients)
                client.log_image(run_id, picture, key="input_gradients", step=int(epoch), timestamp=seed.ended)


def mirror_report(opened: OpenStudy) -> set[str]:
    """Mirror the report of a study; its run, none if there is no report. A changed report is a new run."""
    study = opened.study
    if not (layout.report(study.name)).exists():
        return set()
    folder = opened.report()
    moment = milliseconds(folder / layout.METRICS)
    found = store.read_json(folder / layout.METRICS, f"write it again with: {layout.again('report', study.name)}")[
        "losses"
    ]
    with server.connected() as client:
        where = experiment(client, study)
        fingerprint = hash_of("report", [folder / layout.MANIFEST])
        wanted = Wanted(kind="report", name="report", fingerprint=fingerprint, started=moment, note=REPORT_NOTE)
        run = Mirror.of(client, where, wanted)
        with run.once("report") as fresh:
            if fresh:
                client.log_artifacts(run.id, str(folder))
        run.set_status("FINISHED", moment)
        server.keep_current(client, where, "tags.kind = 'report'", {run.id})
        log_intervals(client, where, found, moment)
    return {run.id}


def log_intervals(client: MlflowClient, where: str, found: dict[str, dict[str, Any]], moment: int) -> None:
    """The report's intervals and their n, next to the means that the losses' runs have already."""
    for run in client.search_runs([where], "tags.kind = 'loss' and tags.current = 'true'"):
        numbers = found.get(run.data.params.get("loss", ""), {})
        estimates = {name: value for name, value in numbers.items() if value is not None and "low" in value}
        Mirror(client, run).log(
            Point(f"{metric(name)}_{end}", value[end], moment)
            for name, value in estimates.items()
            for end in ("low", "high", "n")
            if value[end] is not None
        )

"""Folders -> tables, intervals, figures -> one self-contained page."""

from __future__ import annotations

from pathlib import Path

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.fingerprint import Origin, read_again
from pipeline.results.opened import OpenStudy
from pipeline.study.read import read_study


def write(opened: OpenStudy, losses: list[str]) -> Path:
    """Write experiments/STUDY/report/: report.html, report.md, metrics.json, two tables (.csv) and figures/.

    The folder appears whole or not at all, and the same inputs give the same bytes.

    Args:
        opened: the study whose train and attack stages have run.
        losses: the losses to report, in the order of the tables and figures; `standard` is among them.
    """
    from pipeline.report import page  # matplotlib and torch are slow to import
    from pipeline.results import read, summary

    study = opened.study
    if "standard" not in losses:
        raise UserError(f"report of {study.name}: add 'standard' to the losses, the others are compared with it")
    made_from = opened.report_origin(losses)  # before anything is read: a result that is replaced meanwhile is noticed
    found = read.read_results(opened, losses)
    compared = summary.summarise(found)
    target = layout.report(study.name)
    with files.replacing(target) as folder:
        folder.mkdir()
        others = {one.name: one.metrics for one in found.given_nets}
        files.write_json(folder / layout.METRICS, compared.metrics() | ({"checkpoints": others} if others else {}))
        compared.pairs.to_csv(folder / "pairwise.csv", index=False, encoding="utf-8")
        summary.curves(found).to_csv(folder / "robustness.csv", index=False, encoding="utf-8")
        page.write(found, compared, folder)
        store.seal(folder, made_from, [str(f.relative_to(folder)) for f in sorted(folder.rglob("*")) if f.is_file()])
        refuse_changes(opened, losses, made_from)
    return target


def refuse_changes(opened: OpenStudy, losses: list[str], made_from: Origin) -> None:
    """Publish no report that does not belong to study, code and results as they are now."""
    read_again()
    name = opened.study.name
    now = OpenStudy(read_study(name), before=opened).report_origin(losses)
    if now != made_from:
        raise UserError(
            f"the report of {name} is {now.difference(vars(made_from))}: this changed while the command ran, so"
            " nothing is published; fix: run it again"
        )

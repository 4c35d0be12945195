"""A study of seconds, its stages without DVC and MLflow, and its files as bytes: for `damage` and `kills`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from inputgrad import files
from pipeline import fingerprint, layout, report
from pipeline.results.opened import OpenStudy
from pipeline.stages import attack, measured, runner, train
from pipeline.study import origins
from pipeline.study.params import write_params
from pipeline.study.read import read_study
from pipeline.study.run import Run, runs

NAME, LOSS, SEED = "tiny", "gradient_norm", 0
LOSSES = ["standard", "detached_norm", LOSS]
DATA, HERE = Path("data") / f"{NAME}.npz", Path("experiments") / NAME
STUDY = """\
data: {name: digits}
model: {name: mlp, hidden: [8], activation: silu}
training: {epochs: 3, batch_size: 256, learning_rate: 0.01, seeds: [0, 1]}
losses:
  standard: {}
  detached_norm: {strength: 0.3}
  gradient_norm: {strength: 0.3, p: 2}
attack:
  norm: linf
  epsilon: 0.1
  grid: [0.0, 0.1]
  examples: 20
  attacks: {noise: {}, fgsm: {}, pgd: {steps: 2, restarts: 1}, fab: {targets: 2, steps: 2}}
  at_epsilon: {square: {queries: 10}, apgd_ce: {steps: 2}}
"""
OLDER = (
    STUDY.replace("digits}", "digits, split_seed: 1}").replace("0.01", "0.02").replace("steps: 2}}", "steps: 3}}", 1)
)
"""The same study as somebody had it before an edit: other data, another training and another attack."""
Files = dict[str, bytes]
"""Path below the project's root -> contents."""


def outputs(stage: str, loss: str) -> list[Path]:
    """What a stage writes."""
    of_loss = {"train": ["train", "measured"], "attack": ["attack"]}
    paths = {"prepare": [DATA], "report": [HERE / "report"]}
    return paths.get(stage) or [HERE / "runs" / loss / name for name in of_loss[stage]]


def make(stage: str, loss: str = "") -> None:
    """What `python -m pipeline STAGE tiny LOSS` does, in this process and without MLflow."""
    forget()
    study = read_study(NAME)
    if stage == "prepare":
        runner.prepare(NAME)
    elif stage == "report":
        report.write(OpenStudy(study), LOSSES)
    elif stage == "train":
        for run in runs(study, loss):
            train.train(run)
        measured.measure(runs(study, loss)[0])
        runner.publish_training(runs(study, loss))
    else:
        todo = [attack.Evaluation(run) for run in runs(study, loss)]
        for evaluation in todo:
            attack.evaluate(evaluation)
        runner.publish_attack(todo)


def forget() -> None:
    """Read every file again, as a new process would: damage happens between processes."""
    fingerprint._hash_of_bytes.cache_clear()


def upstream(stage: str, loss: str) -> Iterator[tuple[str, str]]:
    """The stages that one depends on, and itself, in DVC's order."""
    losses = {"prepare": [], "train": [loss], "attack": dict.fromkeys(["standard", loss]), "report": LOSSES}[stage]
    yield "prepare", ""
    yield from (("train", name) for name in losses)
    yield from (("attack", name) for name in losses if stage == "report" or (stage == "attack" and name == loss))
    if stage == "report":
        yield "report", ""


def repro(command: str, locked: Files) -> None:
    """What `dvc repro [-f] [STAGE@tiny-LOSS]` runs, where DVC has recorded the outputs `locked`."""
    targets = re.findall(rf"(\w+)@{NAME}-?(\w*)", command) or [("report", "")]
    for stage, loss in dict.fromkeys(step for target in targets for step in upstream(*target)):
        paths = outputs(stage, loss)
        if " -f" in command or different(contents(paths), {k: v for k, v in locked.items() if inside(k, paths)}):
            for path in paths:
                files.remove(path)
            make(stage, loss)


def everything(text: str = STUDY) -> Files:
    """Write the study into the current folder and run all its stages; returns every file."""
    files.write_text(Path("params.yaml"), f"studies: [{NAME}]\n")
    files.write_text(Path(f"experiments/{NAME}.yaml"), text)
    write_params([read_study(NAME)])
    for stage, loss in upstream("report", ""):
        make(stage, loss)
    return contents()


def states() -> dict[str, Path]:
    """The folders of .state/ by what is made in them: train, attack and measured of LOSS and SEED, train of others."""
    forget()
    study = read_study(NAME)
    run, root = Run(study, LOSS, SEED), Path.cwd()
    found = {
        "train": run.state,
        "attack": attack.Evaluation(run).state,
        "measured": layout.state(origins.of_measured(run).fingerprint),
        "train of a loss": Run(study, "detached_norm", SEED).state,
        "train of a seed": Run(study, LOSS, 1).state,
        "attack of a loss": attack.Evaluation(Run(study, "detached_norm", SEED)).state,
        "attack of a seed": attack.Evaluation(Run(study, LOSS, 1)).state,
        "measured of a loss": layout.state(origins.of_measured(Run(study, "detached_norm", SEED)).fingerprint),
    }
    return {name: path.relative_to(root) for name, path in found.items()}


def contents(paths: Iterable[Path] = (DATA, Path(".state"), HERE)) -> Files:
    """Every file of these files and folders, but locks and what a run has set aside."""
    found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return {str(f): f.read_bytes() for f in found if f.name != "lock" and f.suffix != ".damaged"}


def inside(name: str, paths: Iterable[Path]) -> bool:
    """Whether a file is one of these or lies in them."""
    return any(Path(name).is_relative_to(path) for path in paths)


def put(wanted: Files) -> None:
    """Make the project's results exactly these."""
    now = contents()
    for name in now.keys() | wanted.keys():
        if name not in wanted:
            files.remove(Path(name))
        elif now.get(name) != wanted[name]:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(wanted[name])


def different(now: Files, wanted: Files) -> list[str]:
    """The files that are not equal byte for byte; step times, which no two runs have in common, are left out."""
    timed = {Path(name).parent for name in now.keys() | wanted.keys() if name.endswith("step_time.json")}
    timings = {str(folder / name) for folder in timed for name in ("step_time.json", layout.MANIFEST)}
    return sorted(n for n in (now.keys() | wanted.keys()) - timings if now.get(n) != wanted.get(n))


def shell(*command: str) -> str:
    """What a command prints, errors first."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.stderr + done.stdout

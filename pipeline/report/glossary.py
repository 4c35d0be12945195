"""The terms of the report and what they mean in a study."""

from __future__ import annotations

from pipeline.report.attack_words import BEYOND, attacks_run, examples
from pipeline.report.measure import UNKNOWN
from pipeline.results.quantity import BASELINE
from pipeline.results.summary import Summary
from pipeline.study.schema import Study


def reading(summary: Summary, input_unit: str, target_unit: str) -> list[tuple[str, str]]:
    study = summary.study
    distance = [
        (
            "Median distance",
            "Half of the test examples were broken by a perturbation of at most that size, clean mistakes counting as"
            f" 0; '{BEYOND}' where fewer than half were broken in some seed.",
        )
    ]
    if not study.task.has_classes:
        distance = []
    unit = f" In the training target's {target_unit}; smaller is better." if target_unit else ""
    return [
        (f"Robust {study.task.noun}", f"{study.task.robust}{unit}"),
        (
            "Which attacks",
            f"{attacks_run(study)} A point inside a smaller ball is inside every larger one of that norm, so what was"
            " found at a smaller ε counts at the larger ones too. `pgd_10x1` and `pgd_40x5` are PGD with 10 steps, and"
            f" with 40 steps and 5 restarts; `transfer` are PGD's examples against {source(study)}. A stronger attack"
            " can only make a robust score worse: all of them are upper bounds.",
        ),
        (
            "Attacked examples",
            f"{examples(summary)}, the same for every loss and seed.",
        ),
        (
            "Masking sheet",
            "Checks of every trained network that notice when its gradients hide the way from the attacks instead of"
            " closing it. Read a robust score with a flagged sheet as not yet measured.",
        ),
        ("ε", f"How far an attack may move an input, in the data's own units ({input_unit})."),
        *distance,
        ("Input-gradient norm", "‖g‖₂ of the task loss with respect to the input, mean over the clean test examples."),
        (
            "95 % interval",
            "Student's t over seeds: it covers chance in training, not of the test split. Of a score, it is cut where"
            " no score can be; of a difference it is not.",
        ),
        (
            "Difference",
            f"A loss minus `{BASELINE}` of the same seed, which starts from the same weights and sees the same batches"
            " in the same order. Better or worse is said only where the interval excludes 0; otherwise no difference"
            " was found, which is not the same as none.",
        ),
        (
            "Time per step",
            f"As a multiple of `{BASELINE}`'s, timed in turn with it on the same batch: seconds that the processor"
            " spent on the step, whatever else the machine did (on a GPU those between two events of its own clock)."
            " The ratio of the lower quartiles, with the 95 % interval of a bootstrap over blocks of rounds;"
            f" '{UNKNOWN}' where the interval is too wide for the ratio to mean anything.",
        ),
        (
            "Operations",
            "Multiplications and additions of a step, in products of matrices and convolutions: counted, so without"
            " noise. A step's time follows them roughly: not every operation takes the same time.",
        ),
    ]


def source(study: Study) -> str:
    """Which net transfer attacks start from; see `Run.source`."""
    if len(study.training.seeds) > 1:
        return f"another seed of `{BASELINE}`"
    return f"`{BASELINE}`, which itself gets none with one seed"

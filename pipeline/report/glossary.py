"""The terms of the report and what they mean in a study."""

from __future__ import annotations

from pipeline.report.measure import score
from pipeline.report.summary import BASELINE, Summary


def reading(summary: Summary, input_unit: str, target_unit: str) -> list[tuple[str, str]]:
    """Terms of the report and what they mean here."""
    study, name = summary.study, score(summary.study.task).name
    if study.task == "classification":
        robust = (
            "the share of test examples that no attack breaks at that ε; one that is wrong anyway counts as broken."
        )
    else:
        robust = (
            "the root of the mean over test examples of the largest squared error that any attack reaches at that ε."
        )
    unit = f" In the training target's {target_unit}; smaller is better." if target_unit else ""
    return [
        (f"Robust {name}", f"{robust[0].upper()}{robust[1:]}{unit}"),
        (
            "An upper bound of robustness",
            f"The attacks are {', '.join(study.attack.attacks)}. A stronger one can only make a robust score worse.",
        ),
        ("ε", f"How far an attack may move an input, in the data's own units ({input_unit})."),
        ("Input-gradient norm", "‖g‖₂ of the task loss with respect to the input, mean over the clean test examples."),
        (
            "95 % interval",
            "Student's t over seeds: it covers the luck of the training, not of the test split. It may reach beyond"
            " what a score can be.",
        ),
        (
            "Difference",
            f"A loss minus `{BASELINE}` of the same seed, which starts from the same weights and sees the same batches"
            " in the same order. Better or worse is said only where the interval excludes 0; otherwise no difference"
            " was found, which is not the same as none.",
        ),
        (
            "Time per step",
            f"Median over steps timed in turn with `{BASELINE}` on one machine; `{BASELINE}` timed against itself shows"
            " how exact that is.",
        ),
    ]

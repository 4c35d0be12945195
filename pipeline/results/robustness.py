"""Per-example outcomes and descriptors of one run, once they are known to be complete -> the numbers of the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from inputgrad.robustness import scores
from inputgrad.robustness.scores import nearest, worst
from inputgrad.robustness.settings import ThreatModel
from pipeline.study.schema import Study

WORST = "worst"
"""In the column `attack`: the worst case over all attacks, example by example."""
COLUMNS = ["example", "attack", "norm", "epsilon", "broken", "loss_after", "distance"]
ITERATION_COLUMNS = ["norm", "attack", "gradients", "score"]
LABELS = {
    "gradient_norm_l1": "‖g‖₁",
    "gradient_norm_l2": "‖g‖₂",
    "jacobian_norm": "‖J‖_F",
    "gradient_sparsity": "sparsity of g",
    "gradient_alignment": "cos(x, g)",
    "gradient_stability": "cos(g(x), g(x + noise))",
}
"""The columns that every descriptors.parquet has, and how they are written."""
OTHERS = {"gradient_error": "error of ∇f"}
"""Those that only some have; a further column goes by its own name."""
HEADLINE = "gradient_norm_l2"


def complete(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The columns that the report needs, after a look that no attack of the study missed an example it should see."""
    frame = outcomes[COLUMNS]
    known = set(frame.loc[frame["attack"] == "clean", "example"])
    if unknown := sorted(set(frame["example"]) - known):
        raise ValueError(f"example {unknown[0]} was attacked, but there is no clean outcome of it")
    counts = frame.groupby(["attack", "norm", "epsilon"])["example"].nunique()
    for attack, norm, epsilon in expected(study):
        where = f"'{attack}' at {norm} ε = {epsilon:g}"
        if (attack, norm, epsilon) not in counts.index:
            raise ValueError(f"no {where}, which {study.file} asks for")
        if (count := counts[attack, norm, epsilon]) < len(known):
            raise ValueError(f"{where} saw {count} of {len(known)} examples")
    if study.attack.examples is not None and len(known) > study.attack.examples:
        raise ValueError(f"{len(known)} examples were attacked, {study.file} asks for {study.attack.examples}")
    if not np.isfinite(frame[study.task.harm].astype(float)).all():
        raise ValueError(f"{study.task.harm} holds NaN or infinite numbers")
    for missed in spared(frame, study):
        raise ValueError(missed)
    return frame


def on_all_examples(study: Study) -> list[str]:
    """The attacks that see every example at every ε, so that each can be judged alone; a regression's all do."""
    attack, all_do = study.attack, not study.task.has_classes
    return [name for name in attack.attacks if all_do or attack.traits(name).sees_all_examples]


def expected(study: Study) -> list[tuple[str, str, float]]:
    """Every (attack, norm, epsilon) that must have seen every example."""
    found = [("clean", "none", 0.0)]
    for threat in study.attack.threat_models:
        for epsilon in filter(None, threat.radii):
            found += [(attack, threat.norm, epsilon) for attack in on_all_examples(study)]
    return found


def spared(outcomes: pd.DataFrame, study: Study) -> Iterator[str]:
    """A line for every attack on what was left that did not see an example which stands to this day.

    Such an attack may have no rows at all, where nothing was left: without this look, one that never ran would pass.
    What stands at the headline ε need not be attacked in a smaller ball.
    """
    everyone, attack = set(outcomes["example"]), study.attack
    everywhere = [name for name in attack.attacks if name not in on_all_examples(study)]
    for threat in attack.threat_models:
        of_norm = outcomes[outcomes["norm"].isin(["none", threat.norm])]
        within = {e: of_norm[of_norm["epsilon"] <= e] for e in threat.radii if e > 0}
        broken = {e: set(inside.loc[inside["broken"], "example"]) for e, inside in within.items()}
        for epsilon, inside in within.items():
            standing = everyone - broken[epsilon]
            if epsilon < threat.epsilon and study.task.has_classes:
                standing &= broken[threat.epsilon]
            here = inside[inside["epsilon"] == epsilon]
            for name in dict.fromkeys([*everywhere, *(attack.expensive(threat) if epsilon == threat.epsilon else ())]):
                if missed := standing - set(here.loc[here["attack"] == name, "example"]):
                    where = f"'{name}' at {threat.norm} ε = {epsilon:g}"
                    yield f"{where} did not see {len(missed)} of the {len(standing)} examples that still stand"


def seed_scores(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Scores of one run: norm, epsilon, attack (`clean`, each that sees every example everywhere, `worst`), score.

    Args:
        table: from `inputgrad.robustness.scores.harm`.
        study: whose attacks they are.
    """
    each = table[table.index.get_level_values("attack").isin(["clean", *on_all_examples(study)])]
    total = worst(table).assign(attack=WORST).set_index("attack", append=True)
    rows: pd.DataFrame = scores.scores(pd.concat([each, total]), study.task).rename("score").reset_index()
    clean = rows.loc[rows["attack"] == "clean", "score"].item()
    return pd.concat([rows, without_attack(study, clean)], ignore_index=True)


def without_attack(study: Study, clean: float) -> pd.DataFrame:
    """The clean score as ε = 0 of every norm and attack: where each curve starts."""
    norms = dict.fromkeys(threat.norm for threat in study.attack.threat_models)
    rows = [(norm, 0.0, attack, clean) for norm in norms for attack in (*on_all_examples(study), WORST)]
    return pd.DataFrame(rows, columns=["norm", "epsilon", "attack", "score"])


def iterations(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """A row per norm and attack that is FGSM or PGD and saw every example, in the order of its gradients an example.

    Args:
        table: from `inputgrad.robustness.scores.harm`.
        study: whose threat models are followed, each at its headline ε.
    """
    rows: list[tuple[Any, ...]] = []
    for threat in study.attack.threat_models:
        there = table.index[table.index.get_level_values("norm") == threat.norm].get_level_values("attack").unique()
        probes = [found for name in there if (found := probe(name)) is not None]
        for name, count in [*ladder(study, threat), *probes]:
            if (key := (threat.norm, threat.epsilon, name)) in table.index:
                rows.append((threat.norm, name, count, scores.score(scores.at(table, key), study.task)))
    return pd.DataFrame(rows, columns=ITERATION_COLUMNS).sort_values(
        ["norm", "gradients"], kind="stable", ignore_index=True
    )


def ladder(study: Study, threat: ThreatModel) -> list[tuple[str, int]]:
    """The attacks, and how many gradients of an example each takes at most."""
    stated = study.attack.attacks | study.attack.expensive(threat)
    found = [("fgsm", 1)] if "fgsm" in stated else []
    if "pgd" in stated:
        defaults = study.attack.module("pgd").perturb.__kwdefaults__
        knobs = defaults | stated["pgd"]
        if "use" not in knobs:
            found.append(("pgd", knobs["steps"] * knobs["restarts"]))
    return found


def probe(name: str) -> tuple[str, int] | None:
    """A probe of the masking sheet, which is called pgd_STEPSxRESTARTS, and how many gradients it takes."""
    written = re.fullmatch(r"pgd_(\d+)x(\d+)", name)
    return None if written is None else (name, int(written[1]) * int(written[2]))


def to_boundary(outcomes: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Per norm and example the smallest perturbation that broke it: norm, example, distance; none for a regression."""
    if not study.task.has_classes:
        return pd.DataFrame(columns=["norm", "example", "distance"])
    norms = dict.fromkeys(threat.norm for threat in study.attack.threat_models)
    frames = [nearest(outcomes, norm).reset_index().assign(norm=norm) for norm in norms]
    return pd.concat(frames, ignore_index=True)[["norm", "example", "distance"]]


def medians(distances: pd.DataFrame) -> pd.DataFrame:
    """Median over examples, a row per loss, seed and norm; infinite where half of them were never broken."""
    return distances.groupby(["loss", "seed", "norm"], sort=False)["distance"].median().reset_index()


def survival(distances: pd.DataFrame, norm: str, points: np.ndarray) -> pd.DataFrame:
    """Share of examples that stand beyond each distance: loss, seed, distance, standing."""
    frames = []
    for (loss, seed), part in distances[distances["norm"] == norm].groupby(["loss", "seed"], sort=False):
        ordered = np.sort(part["distance"].to_numpy())
        standing = 1 - np.searchsorted(ordered, points, side="right") / len(ordered)
        frames.append(pd.DataFrame({"loss": loss, "seed": seed, "distance": points, "standing": standing}))
    return pd.concat(frames, ignore_index=True)


def label(name: str) -> str:
    return (LABELS | OTHERS).get(name, name.replace("_", " "))


def key(name: str) -> str:
    """A descriptor in metrics.json, and behind `test_` in MLflow."""
    return "input_gradient_norm" if name == HEADLINE else name


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Per descriptor the mean over the examples where it is finite: descriptor, value, left_out, examples.

    A cosine is NaN where a vector is zero. Without a finite number the value is NaN.
    """
    numbers = frame.drop(columns=["example", "seed"], errors="ignore").astype(float)
    finite = numbers.where(np.isfinite(numbers))
    return pd.DataFrame(
        {
            "descriptor": [str(name) for name in numbers],
            "value": finite.mean().to_numpy(),
            "left_out": finite.isna().sum().to_numpy(),
            "examples": len(numbers),
        }
    )


def complete_descriptors(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, after a look that every descriptor is there."""
    if not np.isfinite(frame[["example", *LABELS]][HEADLINE].astype(float)).any():
        raise ValueError(f"{HEADLINE} is nowhere finite")
    return frame

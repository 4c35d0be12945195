"""Per-example outcomes, once they are known to be complete -> one score per norm, epsilon and attack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from inputgrad.robustness.scores import scores, worst
from pipeline.study.schema import Study

WORST = "worst"
"""In the column `attack`: the worst case over all attacks, example by example."""
COLUMNS = ["example", "attack", "norm", "epsilon", "broken", "loss_after", "distance"]


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
    rows: pd.DataFrame = scores(pd.concat([each, total]), study.task).rename("score").reset_index()
    clean = rows.loc[rows["attack"] == "clean", "score"].item()
    return pd.concat([rows, without_attack(study, clean)], ignore_index=True)


def without_attack(study: Study, clean: float) -> pd.DataFrame:
    """The clean score as ε = 0 of every norm and attack: where each curve starts."""
    norms = dict.fromkeys(threat.norm for threat in study.attack.threat_models)
    rows = [(norm, 0.0, attack, clean) for norm in norms for attack in (*on_all_examples(study), WORST)]
    return pd.DataFrame(rows, columns=["norm", "epsilon", "attack", "score"])

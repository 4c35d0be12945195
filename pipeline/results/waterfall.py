"""What each attack adds at the headline ε: the score after the first attack, the first two, and so on."""

from __future__ import annotations

import pandas as pd

from inputgrad.robustness.threat import Attack, ThreatModel
from pipeline.results import scores
from pipeline.study.schema import Study

SMALLER = "smaller ε"
"""A step of its own: what the attacks of every ε found inside a smaller ball, and not at the headline ε itself."""


def steps(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The steps of one run in order: norm, step, score, and `change`, by which the step moved the score.

    Args:
        table: from `scores.harm`.
        study: whose threat models are followed, each at its headline ε.
    """
    frames = [one(table, study, t) for t in study.attack.threat_models if t.epsilon > 0]
    columns = ["norm", "step", "score", "change"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def one(table: pd.DataFrame, study: Study, threat: ThreatModel) -> pd.DataFrame:
    """The steps under one threat model; an attack without rows, where nothing was left to break, changes nothing."""
    norm, epsilon = threat.norm, threat.epsilon
    of_norm = table[table.index.get_level_values("norm") == norm].droplevel("norm")
    radius = of_norm.index.get_level_values("epsilon")
    here = of_norm[radius == epsilon].droplevel("epsilon")
    found = here.reindex(order(list(here.index), study.attack, threat))
    found.loc["clean"] = scores.at(table, scores.CLEAN)
    found.loc[SMALLER] = of_norm[radius < epsilon].max()
    reached = study.task.score_of_harm(found.cummax().ffill().mean(axis=1))
    return pd.DataFrame({"norm": norm, "step": reached.index, "score": reached.array, "change": reached.diff().array})


def order(there: list[str], attack: Attack, threat: ThreatModel) -> list[str]:
    """Clean, the attacks of every ε, the probes of the masking sheet, then the expensive attacks on what is left.

    As the attack stage runs them: one that is named twice runs with the expensive ones, black boxes last.
    """
    last = attack.expensive(threat)
    probes = [name for name in there if name not in {**attack.attacks, **last}]
    cheap = [name for name in attack.attacks if name not in last]
    expensive = sorted(last, key=lambda name: attack.traits(name).black_box)
    return ["clean", *cheap, SMALLER, *probes, *expensive]

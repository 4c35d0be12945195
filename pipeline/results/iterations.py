"""Does a longer attack find more? The score at the headline ε after ever more gradients of one example."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from inputgrad.robustness import scores
from inputgrad.robustness.settings import ThreatModel
from pipeline.study.schema import Study

COLUMNS = ["norm", "attack", "gradients", "score"]


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
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["norm", "gradients"], kind="stable", ignore_index=True)


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

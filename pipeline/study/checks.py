"""What the types of a study cannot see: do its numbers and names fit together, does a part offer what it must?"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from inputgrad import registry
from inputgrad.attacks import Traits
from inputgrad.errors import UserError, nearest
from inputgrad.gradients import norms
from inputgrad.losses import Loss
from inputgrad.losses._sum import Sum
from inputgrad.robustness.settings import attack_module
from pipeline import data, models
from pipeline.data import _measures
from pipeline.study.validation import named

if TYPE_CHECKING:
    from pipeline.study.schema import Study

ATTACKS = (("attack", "attacks"), ("attack", "at_epsilon"), ("search", "attacks"))
"""Where a study names attacks."""
TAKEN = ("clean", "transfer", "worst", "pgd_10x1", "pgd_40x5")
"""What the attack stage and the report call something else: no attack may have that name."""
T = TypeVar("T")
Wanted = dict[str, tuple[Callable[[Any], bool], str]]
"""Attribute of a module -> whether a value fits, and what to write."""


def check(study: Study) -> None:
    """What types alone cannot see: ε within the data's range, losses that are defined for the task."""
    if "standard" not in study.losses:
        raise UserError(f"{study.file}: losses: add 'standard: {{}}', the others are compared with it")
    check_rates(study)
    _, bounds, gives = data.facts(study.data)
    check_attacks(study)
    for where, threat in zip(("attack", "attack.secondary"), study.attack.threat_models, strict=False):
        if bounds:
            # in l2 the whole box is wider; a million inputs make it a thousand times as wide
            width = (bounds[1] - bounds[0]) * (1 if norms.named(threat.norm).each_input else 1000)
            for radius in threat.radii:
                if radius > width:
                    raise UserError(
                        f"{study.file}: {where}: epsilon {radius:g} is outside the data's range {list(bounds)};"
                        f" give at most {width:g}"
                    )
    low, high = study.task.limits or (0.0, float("inf"))
    for row in study.published:
        if not all(low <= value <= high for value in (row.clean, row.robust) if value is not None):
            raise UserError(
                f"{study.file}: published: {row.name}: a score lies between {low:g} and {high:g}; fix: write 0.785 for"
                " 78.5 %"
            )
    check_figures(study)
    for name, loss in terms_of(study):
        if loss.points is not None:
            fix = "fix: leave it out, or train in a loop of your own"
            raise UserError(f"{study.file}: losses.{name}.points: a data set gives no points of their own; {fix}")
        if study.task.name not in loss.tasks:
            raise UserError(
                f"{study.file}: losses.{name} is not defined for {study.task}; fix: remove it from this study"
            )
        if gives is not None and (missing := [need for need in type(loss).needs if need not in gives]):
            where = f"{study.file}: losses.{name} needs a {missing[0]}, which data set '{study.data['name']}'"
            raise UserError(f"{where} does not give; fix: remove the loss, or give it in the data set's module")
        if getattr(loss, "of", "loss") not in study.task.scalars:
            fix = f"for {study.task} give {' or '.join(map(repr, study.task.scalars))}"
            raise UserError(f"{study.file}: losses.{name}.of needs classes; {fix}")
        if bounds and (epsilon := getattr(loss, "epsilon", 0)) > bounds[1] - bounds[0]:
            raise UserError(
                f"{study.file}: losses.{name}.epsilon {epsilon:g} is outside the data's range {list(bounds)}"
            )
    for file in models.sources(study.model):
        if not file.is_file():
            raise UserError(f"{study.file}: model.weights: {file} is missing; fix: correct the name, from the root on")
    check_checkpoints(study)
    for name, ranges in study.search.ranges.items():
        check_ranges(study, name, ranges)


def check_rates(study: Study) -> None:
    """One learning rate, or the corners of a piecewise schedule: each where it belongs, and never both."""
    training, where = study.training, f"{study.file}: training"
    if training.schedule == "piecewise":
        if not training.learning_rates:
            fix = "fix: learning_rates: [[0.0, 0.1], [1.0, 0.001]], the share of the training and the rate there"
            raise UserError(f"{where}.schedule: piecewise needs learning_rates; {fix}")
        if training.learning_rate is not None:
            raise UserError(f"{where}.learning_rate is not used by schedule: piecewise; fix: leave it out")
        shares = [share for share, _ in training.learning_rates]
        if any(late <= early for early, late in itertools.pairwise(shares)):
            raise UserError(f"{where}.learning_rates: the shares {shares} must rise; fix: put them in order")
    elif training.learning_rates:
        raise UserError(f"{where}.learning_rates needs schedule: piecewise; fix: add it, or leave learning_rates out")
    elif training.learning_rate is None:
        raise UserError(f"{study.file}: key 'training.learning_rate' is missing")


def check_figures(study: Study) -> None:
    """A loss and a metric that the study has, and one rule of when the figure counts as reproduced."""
    metrics = ["clean", "robust", *_measures.described(study.data)]
    low, high = study.task.limits or (0.0, float("inf"))
    for number, figure in enumerate(study.figures):
        where = f"{study.file}: figures.{number}"
        if figure.loss not in study.losses:
            raise UserError(f"{where}.loss: no '{figure.loss}' in losses; {nearest(figure.loss, study.losses)}")
        if figure.metric not in metrics:
            raise UserError(f"{where}.metric: no '{figure.metric}' is measured; {nearest(figure.metric, metrics)}")
        rules = [name for name in ("error", "factor", "within") if getattr(figure, name) is not None]
        if len(rules) != 1:
            said = " and ".join(rules) or "no rule"
            raise UserError(f"{where} states {said}; fix: exactly one of error, factor, within")
        if figure.metric in ("clean", "robust") and not low <= figure.value <= high:
            raise UserError(f"{where}.value: a score lies between {low:g} and {high:g}; fix: write 0.785 for 78.5 %")
        if figure.factor is not None and figure.value <= 0:
            raise UserError(f"{where}.value: {figure.value:g} has no factor around it; fix: error or within")


def check_checkpoints(study: Study) -> None:
    """A plain name that no loss has, and something to load."""
    for name, given in study.checkpoints.items():
        where = f"{study.file}: checkpoints.{named(f'{study.file}: checkpoints', name)}"
        if name in study.losses:
            raise UserError(f"{where} has the name of a loss; fix: another name")
        if given.model is None and given.weights is None:
            raise UserError(f"{where} names neither a model nor weights; fix: weights: FILE, or model: MODULE:MODEL")
        if given.weights is not None and not Path(given.weights).is_file():
            raise UserError(f"{where}.weights: {given.weights} is missing; fix: correct the name, from the root on")
        if given.model is not None:
            try:
                registry.imported(given.model)  # as other parts of one's own: found, and found by the fingerprint
            except UserError as error:
                raise UserError(f"{where}.model: {error}") from error


def check_ranges(study: Study, name: str, ranges: dict[str, tuple[float, float]]) -> None:
    """`search.ranges` narrows what the loss's file gives, and nothing else."""
    where = f"{study.file}: search.ranges"
    if name not in study.losses:
        raise UserError(f"{where}: no '{name}' in losses; {nearest(name, study.losses)}")
    own = type(study.losses[name]).search
    for knob, (low, high) in ranges.items():
        if knob not in own:
            raise UserError(f"{where}.{name}: no '{knob}' to search; {nearest(knob, own)}")
        widest = own[knob]
        if not widest.low <= low < high <= widest.high:
            raise UserError(
                f"{where}.{name}.{knob}: [{low:g}, {high:g}] must rise and lie inside {widest.low:g} to"
                f" {widest.high:g}, the range in {type(study.losses[name]).__module__}"
            )


def check_attacks(study: Study) -> None:
    """Attacks that are defined for the task, and those that the masking sheet compares."""
    attack = study.attack
    for section, key in ATTACKS:
        for name, knobs in (getattr(getattr(study, section), key) or {}).items():
            if name in TAKEN:
                raise UserError(f"{study.file}: {section}.{key}: '{name}' means something else; fix: another name")
            if attack_module(name, knobs).TRAITS.classes and not study.task.has_classes:
                raise UserError(
                    f"{study.file}: {section}.{key}.{name} is not defined for {study.task}, which has no decision"
                    f" boundary; remove it (random_search is a black box for {study.task})"
                )
    for name in attack.attacks:
        if attack.attacks[name].get("use") != attack.at_epsilon.get(name, attack.attacks[name]).get("use"):
            raise UserError(f"{study.file}: attack.at_epsilon.{name}.use is not that of attack.attacks; fix: state one")
    for name in ("noise", "fgsm", "pgd"):
        if name not in attack.attacks:
            raise UserError(f"{study.file}: attack.attacks: add '{name}: {{}}', the masking sheet compares it")
    norms = [threat.norm for threat in attack.threat_models]
    if len(set(norms)) < len(norms):
        raise UserError(f"{study.file}: attack.secondary.norm: {norms[0]} is the headline's norm; give the other one")


def terms_of(study: Study) -> Iterator[tuple[str, Loss]]:
    """Every loss of a study by its key; of a sum, its terms."""
    for name, loss in study.losses.items():
        if isinstance(loss, Sum):
            yield from ((f"{name}.terms.{term}", one) for term, one in loss.terms.items())
        else:
            yield name, loss


def part(file: Path, key: str, name: Any, use: Any, load: Callable[[str, str | None], T]) -> T:
    """The part that `key` of a study names, from `load`; `use` is the path of one's own."""
    named(f"{file}: {key}", name)
    try:
        return load(name, use if use is None else str(use))
    except UserError as error:
        raise UserError(f"{file}: {key if use is None else f'{key}: {name}.use'}: {error}") from error


def attack(name: str, use: str | None) -> ModuleType:
    module = offering(registry.find("inputgrad.attacks", name, use), ATTACK)
    if hasattr(module, "nearest"):
        offering(module, NEAREST)
    return module


def data_set(name: str, use: str | None) -> ModuleType:
    module = registry.find("pipeline.data", name, use)
    if hasattr(module, "MEASURES") or hasattr(module, "measures"):
        offering(module, MEASURES)
    return offering(module, DATA_SET if not hasattr(module, "facts") else {"load": DATA_SET["load"]})


def model(name: str, use: str | None) -> Callable[..., nn.Module]:
    found = registry.find("pipeline.models", name, use)
    function: Callable[..., nn.Module] = found.build if use is None else found
    if not takes(2)(function):
        raise UserError(f"{use} is no function build(shape, outputs, *, ...) that gives a net; fix: name one")
    return function


def takes(positional: int) -> Callable[[Any], bool]:
    """Whether a thing is a function of so many positional arguments."""

    def fits(thing: Any) -> bool:
        if not inspect.isfunction(thing):
            return False
        given = inspect.signature(thing).parameters.values()
        return positional == sum(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in given)

    return fits


def is_bounds(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, float | int) for v in value)
    )


NEAREST: Wanted = {"nearest": (takes(5), "a function nearest(model, x, y, norm, bounds, *, ...)")}
ATTACK: Wanted = {
    "TRAITS": (lambda value: isinstance(value, Traits), "TRAITS = Traits(...)"),
    "perturb": (takes(5), "a function perturb(model, x, y, threat, draws, *, ...)"),
}
MEASURES: Wanted = {
    "MEASURES": (
        _measures.are_described,
        "MEASURES = {'NAME': 'one sentence'}, where no NAME is that of another number, such as"
        f" {', '.join(_measures.TAKEN[:2])} or {_measures.TAKEN_BEGINNINGS[0]}…",
    ),
    "measures": (takes(2), "a function measures(model, dataset) that gives a number for every name in MEASURES"),
}
DATA_SET: Wanted = {
    "TASK": (lambda value: value in Loss.tasks, f"TASK = {' or '.join(map(repr, Loss.tasks))}"),
    "BOUNDS": (is_bounds, "BOUNDS = (low, high), or None for data without"),
    "load": (takes(0), "a function load(*, ...) that gives Arrays"),
}


def offering(module: Any, wanted: Wanted) -> ModuleType:
    if not isinstance(module, ModuleType):
        raise UserError("this names a thing in a module; fix: name the module, without ':'")
    for name, (fits, form) in wanted.items():
        if not hasattr(module, name) or not fits(getattr(module, name)):
            raise UserError(f"{module.__name__} has no such {name} as is needed; fix: write {form}")
    return module


def listed(attacks: Mapping[str, Mapping[str, Any]]) -> str:
    """Attacks and their settings, for people."""
    knobs = {name: ", ".join(f"{knob} {value}" for knob, value in given.items()) for name, given in attacks.items()}
    return " and ".join(f"{name} ({said})" if said else name for name, said in knobs.items())

"""Losses that depend on the input gradient: defined once, proven to act.

from inputgrad import GradientNorm
GradientNorm(strength=0.3)(model, x, y).backward()

A name is loaded when it is first used: `import inputgrad` alone loads neither torch nor anything else.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the table below gives, for type checkers and editors
    from inputgrad.audit import Audit as Audit
    from inputgrad.audit import audit as audit
    from inputgrad.errors import UserError as UserError
    from inputgrad.gradients.adversary import Adversary as Adversary
    from inputgrad.gradients.forward import Context as Context
    from inputgrad.gradients.forward import Draws as Draws
    from inputgrad.gradients.forward import Forward as Forward
    from inputgrad.losses import Loss as Loss
    from inputgrad.losses import Range as Range
    from inputgrad.losses._stacked import Stacked as Stacked
    from inputgrad.losses._stacked import StackedStep as StackedStep
    from inputgrad.losses._step import CompiledStep as CompiledStep
    from inputgrad.losses._step import Step as Step
    from inputgrad.losses._step import Taken as Taken
    from inputgrad.losses.curvature import Curvature as Curvature
    from inputgrad.losses.derivative import Derivative as Derivative
    from inputgrad.losses.detached_derivative import DetachedDerivative as DetachedDerivative
    from inputgrad.losses.detached_norm import DetachedNorm as DetachedNorm
    from inputgrad.losses.detached_target import DetachedTarget as DetachedTarget
    from inputgrad.losses.elle import ELLE as ELLE
    from inputgrad.losses.fgsm import FGSM as FGSM
    from inputgrad.losses.finite_difference import FiniteDifference as FiniteDifference
    from inputgrad.losses.gradient_alignment import GradientAlignment as GradientAlignment
    from inputgrad.losses.gradient_direction import GradientDirection as GradientDirection
    from inputgrad.losses.gradient_norm import GradientNorm as GradientNorm
    from inputgrad.losses.gradient_target import GradientTarget as GradientTarget
    from inputgrad.losses.jacobian_norm import JacobianNorm as JacobianNorm
    from inputgrad.losses.local_linearity import LocalLinearity as LocalLinearity
    from inputgrad.losses.nfgsm import NFGSM as NFGSM
    from inputgrad.losses.pgd import PGD as PGD
    from inputgrad.losses.right_reasons import RightReasons as RightReasons
    from inputgrad.losses.standard import Standard as Standard
    from inputgrad.losses.trades import TRADES as TRADES
    from inputgrad.robustness.evaluation import Evaluation as Evaluation
    from inputgrad.robustness.evaluation import evaluate as evaluate

_HOME: dict[str, str] = {
    "ELLE": "losses.elle",
    "FGSM": "losses.fgsm",
    "NFGSM": "losses.nfgsm",
    "PGD": "losses.pgd",
    "TRADES": "losses.trades",
    "Adversary": "gradients.adversary",
    "Audit": "audit",
    "CompiledStep": "losses._step",
    "Context": "gradients.forward",
    "Curvature": "losses.curvature",
    "Derivative": "losses.derivative",
    "DetachedDerivative": "losses.detached_derivative",
    "DetachedNorm": "losses.detached_norm",
    "DetachedTarget": "losses.detached_target",
    "Draws": "gradients.forward",
    "Evaluation": "robustness.evaluation",
    "FiniteDifference": "losses.finite_difference",
    "Forward": "gradients.forward",
    "GradientAlignment": "losses.gradient_alignment",
    "GradientDirection": "losses.gradient_direction",
    "GradientNorm": "losses.gradient_norm",
    "GradientTarget": "losses.gradient_target",
    "JacobianNorm": "losses.jacobian_norm",
    "LocalLinearity": "losses.local_linearity",
    "Loss": "losses",
    "Range": "losses",
    "RightReasons": "losses.right_reasons",
    "Stacked": "losses._stacked",
    "StackedStep": "losses._stacked",
    "Standard": "losses.standard",
    "Step": "losses._step",
    "Taken": "losses._step",
    "UserError": "errors",
    "evaluate": "robustness.evaluation",
}
"""Public name -> the module that defines it. `audit` is none of them: it is the package inputgrad/audit, which can be
called (see there)."""

_EXTRA = ("pandas", "pyarrow", "pyautoattack", "foolbox")
"""What the attacks need, and the losses do not."""
_FIX = f"fix: pip install {' '.join(_EXTRA)}"
"""By their own names: nobody has published this library's."""

__all__ = ["audit", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "audit":
        return importlib.import_module("inputgrad.audit")
    if name not in _HOME:
        raise AttributeError(f"module 'inputgrad' has no attribute '{name}'; known: {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(f"inputgrad.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ModuleNotFoundError(f"inputgrad.{name} needs {error.name}; {_FIX}", name=error.name) from None
    globals()[name] = value  # looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

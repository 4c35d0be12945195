"""Public name -> the module that defines it: for type checkers, and for `inputgrad`, which loads a name from there."""

from inputgrad.audit import Audit as Audit
from inputgrad.audit import audit as audit
from inputgrad.errors import UserError as UserError
from inputgrad.gradients.ascent import Adversary as Adversary
from inputgrad.gradients.context import Context as Context
from inputgrad.gradients.draws import Draws as Draws
from inputgrad.gradients.forward import Forward as Forward
from inputgrad.losses import Loss as Loss
from inputgrad.losses import Range as Range
from inputgrad.losses._attribution import AttributionPrior as AttributionPrior
from inputgrad.losses._residual import Residual as Residual
from inputgrad.losses._score import ScoreMatching as ScoreMatching
from inputgrad.losses._sum import Sum as Sum
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
from inputgrad.stacked import Stacked as Stacked
from inputgrad.stacked import StackedStep as StackedStep
from inputgrad.step import CompiledStep as CompiledStep
from inputgrad.step import Step as Step
from inputgrad.step import Taken as Taken

__all__: list[str]
_EXTRA: tuple[str, ...]
_FIX: str

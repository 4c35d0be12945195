"""What outputs say about classes, whether a model gives a logit for each class or one logit for two."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inputgrad import tasks


def log_probabilities(outputs: Tensor) -> Tensor:
    """The log p_c of every example, (N, C, ...), from logits (N, C, ...), or (N, 2) from one logit (N,) or (N, 1).

    The softmax of one logit is 1 whatever the model says: a term made of it is 0, and trains nothing.
    """
    if not tasks.is_one_logit(outputs):
        return F.log_softmax(outputs, 1)
    logit = outputs.reshape(-1, 1)
    return F.logsigmoid(torch.cat([-logit, logit], 1))

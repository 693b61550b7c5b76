"""A margin softmax over pairs: the usual loss of face recognition, as a baseline for the weighted cross-entropy.

After CosFace (Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018), with templates
in the place of class centres.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def margin_softmax(scores: Tensor, same: Tensor, gain: Tensor, margin: float, dim: int) -> Tensor:
    """Mean over genuine pairs of -log softmax against the impostor pairs along `dim`, genuine scores less the margin.

    scores, same [U, N] as `VerificationLoss` takes them; `gain` scales scores to logits.
    """
    logits = scores * gain
    impostors = logits.masked_fill(same != 0, -torch.inf).logsumexp(dim, keepdim=True)
    behind = F.softplus(impostors - (logits - margin * gain))  # [U, N]
    genuine = same > 0
    return torch.where(genuine, behind, 0.0).sum() / genuine.sum().clamp(min=1)

"""All that we take of torch beside its public names; `tests/unit/test_internals.py` names the version it was
found in. Each is what a public name calls underneath, without what that costs a small step.

fused_adamw_: one call for all weights of a group; `torch.optim.AdamW(fused=True)` calls it.
lerp_, add_, copy_: one call for a list of tensors; torch's own optimisers call them.
"""

from __future__ import annotations

import torch

fused_adamw_ = torch._fused_adamw_
lerp_ = torch._foreach_lerp_
add_ = torch._foreach_add_
copy_ = torch._foreach_copy_

__all__ = ["add_", "copy_", "fused_adamw_", "lerp_"]

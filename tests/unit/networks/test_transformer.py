"""Attention written out is the attention of torch's kernel."""

from __future__ import annotations

import torch

from genpipe.networks.transformer import SHORT, causal_attention


def test_short_attention_in_bfloat16_is_that_of_the_kernel() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 17, 8) for _ in range(3))
    low = causal_attention(*(part.bfloat16() for part in (q, k, v)))
    assert low.dtype == torch.bfloat16 and SHORT >= 17
    torch.testing.assert_close(low.float(), causal_attention(q, k, v), atol=0.03, rtol=0.03)
    torch.testing.assert_close(causal_attention(q, k, v)[:, :, 0], v[:, :, 0])  # the first sees itself alone

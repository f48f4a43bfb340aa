"""The one training loop and what it stands on. Knows torch.distributed, not Ray: hooks come as arguments."""

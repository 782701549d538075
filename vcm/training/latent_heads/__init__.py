"""Heads on a bank of frozen base latents: configuration, what each kind learns from, and the training."""

"""This machine as a compute provider: what it offers, its container engine, its GPUs."""

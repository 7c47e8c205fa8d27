"""The speed of this machine: reading, writing and training, beside its ceilings."""

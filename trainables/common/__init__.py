"""Files, validation and registries: what has nothing to do with training."""

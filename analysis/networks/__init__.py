"""Looking into trained networks: checkpoints, geometry, features, shifts."""

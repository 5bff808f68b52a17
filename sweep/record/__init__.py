"""A run's data on disk: schema, storage, damage, progress. Knows neither torch nor Ray."""

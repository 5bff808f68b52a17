"""How one trial trains: its configuration, the architecture variants, the data and the loop.

Importing this package loads the configuration only; torch is loaded by the modules that compute with it.
"""

from trainables.config import ArchitectureConfig, HeavyConfig, TrialConfig

__all__ = ["ArchitectureConfig", "HeavyConfig", "TrialConfig"]

"""Small programs against the public contracts alone: what the mechanisms to come need of the engine."""

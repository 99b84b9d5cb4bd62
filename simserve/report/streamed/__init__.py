"""A run whose records leave in pieces: its figures added up, its requests written as they end."""

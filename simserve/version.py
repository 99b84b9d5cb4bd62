"""The version: stated here and nowhere else; the build and everything that records it read it from here."""

__version__ = "0.1.0"

"""Rocade: an open, self-hosted, multi-brand connected vehicle modular platform. Rooms and rules: docs/map.md."""

__version__ = "0.1.0"

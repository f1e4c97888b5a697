"""Business modules, one folder each, the same file names in each (docs/map.md)."""

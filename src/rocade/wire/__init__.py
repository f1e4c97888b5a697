"""Formats that cross a network: pure bytes <-> typed value, each fuzzed. No sockets, no storage."""

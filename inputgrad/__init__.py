"""Losses that depend on the input gradient: defined once, proven to act."""

"""Losses that depend on the input gradient: defined once, trained side by side, attacked, reported."""

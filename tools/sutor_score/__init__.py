"""Completions -> scores: the Python half of `sutor eval`."""

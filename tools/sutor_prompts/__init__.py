"""Rows -> prompts as token ids, and generated ids -> texts: the Python half of generation."""

"""Rows -> a token store, by several processes, resumable: what `prepare` does with a data set."""

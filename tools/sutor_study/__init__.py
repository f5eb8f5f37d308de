"""Studies: many runs of sutor's verbs, a table and a picture."""

"""Facts about rows: how many there are, how long their documents, how much of them is trained."""

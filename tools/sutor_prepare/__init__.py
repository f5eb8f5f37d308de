"""Rows of JSON lines -> token stores: the Python half of `sutor prepare`."""

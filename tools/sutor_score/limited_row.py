"""What a scorer may take for one row."""

from sutor_prepare.limits import Limited, row_seconds

ROW_SECONDS = 12  # times SUTOR_ROW_SECONDS: words are many, and compared with each other
MEBIBYTES = 512


def limited_row(name, where):
    return Limited(f"scorer {name}", where, ROW_SECONDS * row_seconds(), MEBIBYTES)

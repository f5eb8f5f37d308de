"""Files of rows -> rows: JSON lines, JSON, CSV and Parquet, also compressed; none is held whole."""

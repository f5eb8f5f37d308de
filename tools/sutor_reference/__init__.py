"""Pages and completion that are made from what the program says of itself."""

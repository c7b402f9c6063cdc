"""`tokenmill mix`: sources of several runs as one mixture."""

"""Work in the background: the loop that cleans up deleted files and sweeps orphans, and later every long operation."""

"""Data partitions (server.md §4)."""

DEFAULT_KEY = 1
DEFAULT_NAME = "Microsoft.Default"

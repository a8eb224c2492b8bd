"""The TCM model family."""

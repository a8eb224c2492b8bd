"""Models and their auto classes."""

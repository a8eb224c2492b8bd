"""Recognisers: words straightened out of feature maps and read."""

"""LongAlign: the long-context alignment recipe."""

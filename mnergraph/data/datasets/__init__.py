"""Data sets of posts."""

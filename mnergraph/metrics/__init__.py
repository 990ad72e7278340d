"""Scores of tags and their significance; pure functions."""

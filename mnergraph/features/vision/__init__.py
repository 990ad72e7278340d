"""Pixels to features, boxes and captions."""

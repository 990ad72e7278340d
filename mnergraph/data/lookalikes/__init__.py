"""Lookalikes: a generated benchmark with drawn images."""

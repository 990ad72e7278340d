"""The on-disk feature store."""

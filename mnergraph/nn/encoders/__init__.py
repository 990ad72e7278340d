"""From raw node stores to node features."""

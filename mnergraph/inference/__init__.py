"""From a post as people have it to its entities."""

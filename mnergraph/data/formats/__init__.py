"""Files of posts and of evidence, read and written."""

"""Features: text encoders and word vectors, image extractors, and the on-disk store that keeps what they compute."""

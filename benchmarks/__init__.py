"""Training, comparing and timing what the package offers. Not installed; run from the project's folder."""

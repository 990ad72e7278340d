"""What is said where Ray Data is not installed."""

#: How to install it, and pyarrow with it.
NEEDED = "--engine ray needs Ray Data: pip install 'mnergraph[ray]'"

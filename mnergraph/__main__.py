"""``python -m mnergraph``: the command line."""

from mnergraph.cli.main import main

main()

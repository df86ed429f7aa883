"""``python -m strokeseg`` is the command line."""

from strokeseg.cli import main

main()

"""`python -m collapselab`."""

from collapselab.cli import main

main()

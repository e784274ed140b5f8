"""`python -m holdfast.daemon.cli` is `holdfast`."""

from holdfast.daemon.cli import main

main(prog_name="holdfast")

"""Evaluated checkpoint -> registered version with its alias."""

import sys

from langevin.cli import main

main(["promote", *sys.argv[1:]])

"""Trained checkpoint -> figures at several values of one sampling setting: RECIPE FIELD VALUE..."""

import sys

from langevin.cli import main

main(["sweep", *sys.argv[1:]])

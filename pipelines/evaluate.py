"""Checkpoint -> FID, KID, IS, precision, recall, recognition and NLL."""

import sys

from langevin.cli import main

main(["evaluate", *sys.argv[1:]])

"""Registered model -> images as shards."""

import sys

from langevin.cli import main

main(["generate", *sys.argv[1:]])

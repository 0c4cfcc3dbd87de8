"""Everything about the model on one page, and the closing table."""

import sys

from langevin.cli import main

main(["report", *sys.argv[1:]])

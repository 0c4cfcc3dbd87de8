"""Raw images -> versioned WebDataset shards."""

import sys

from langevin.cli import main

main(["prepare", *sys.argv[1:]])

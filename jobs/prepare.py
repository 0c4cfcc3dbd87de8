"""On a cluster: `ray job submit --working-dir . -- python jobs/prepare.py RECIPE`."""

import sys

from langevin.cli import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])

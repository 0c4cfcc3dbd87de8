"""On a cluster: `ray job submit --working-dir . -- python jobs/evaluate.py RECIPE`."""

import sys

from langevin.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])

"""On a cluster: `ray job submit --working-dir . -- python jobs/generate.py RECIPE`."""

import sys

from langevin.cli import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:]])

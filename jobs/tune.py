"""On a cluster: `ray job submit --working-dir . -- python jobs/tune.py SEARCH`."""

import sys

from langevin.cli import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])

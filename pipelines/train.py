"""Recipe -> trained checkpoint. RAY_ADDRESS sends the work to a cluster; this waits for it."""

import sys

from langevin.cli import main

main(["train", *sys.argv[1:]])

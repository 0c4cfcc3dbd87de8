"""Training on a cluster: `ray job submit --working-dir . -- python jobs/train.py RECIPE [--workers N]`.

Reading list: this, methods/ddpm.py, gaussian.py, diffusion/objectives.py, denoiser.py, schedules.py, training/loop.py.
"""

import sys

from langevin.cli import main

if __name__ == "__main__":
    main(["train", "--prepare", *sys.argv[1:]])

"""Images -> latents of a trained codec, once."""

import sys

from langevin.cli import main

main(["encode", *sys.argv[1:]])

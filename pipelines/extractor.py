"""The data set's own feature extractor, by which FID sees."""

import sys

from langevin.cli import main

main(["extractor", *sys.argv[1:]])

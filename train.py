"""Train a self-consuming loop:  python train.py --config digits_curated.yaml  (--help says more)."""

import sys

from sc_loops.cli import train

if __name__ == "__main__":
    sys.exit(train())

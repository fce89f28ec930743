"""`python -m fsseg`, which `torchrun -m fsseg` needs."""

import sys

from fsseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

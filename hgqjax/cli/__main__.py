"""`python -m hgqjax.cli` is the command, too."""

import sys

from hgqjax.cli import main

if __name__ == "__main__":
    sys.exit(main())

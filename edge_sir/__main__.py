"""`python -m edge_sir`."""

import sys

from edge_sir.cli import main

if __name__ == "__main__":
    sys.exit(main())

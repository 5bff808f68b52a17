"""`python -m sweep.spot`: see `sweep.cluster.spot`."""

import sys

from sweep.cluster.spot import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m sweep.pack`: see `sweep.record.pack`."""

import sys

from sweep._gc import leave_to_the_system
from sweep.record.pack import main

if __name__ == "__main__":
    leave_to_the_system()
    sys.exit(main())

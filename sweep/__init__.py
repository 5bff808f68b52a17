"""When and where trials run: studies, the plan, the search, the driver, and the record of a run.

`python -m sweep.run` is the way in. Importing this package loads nothing heavy.
"""

import os

# Ray reads this once, when it is imported: token authentication is on, in clusters that are started and in those that
# are joined, unless the user has said otherwise.
os.environ.setdefault("RAY_AUTH_MODE", "token")

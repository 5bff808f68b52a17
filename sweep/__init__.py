"""When and where trials run: studies, the plan, the search, the driver, and the record of a run.

`python -m sweep.run` is the way in. Importing this package loads nothing heavy.
"""

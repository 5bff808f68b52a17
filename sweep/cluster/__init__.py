"""The cluster that a run uses: joining it, and checking the files that describe it."""

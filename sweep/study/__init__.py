"""What a run is asked to find out: the study, its options and its file."""

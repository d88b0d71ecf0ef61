"""What executes the runs of a sweep."""

"""What a run leaves on disk, who may write it, and how it is read."""

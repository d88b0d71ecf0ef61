"""A monitor for other people's training: what a model writes, judged while it is trained."""

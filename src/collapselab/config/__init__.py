"""Every setting of a run, named runs, settings from text, and evaluation protocols."""

"""When a sample, a step and a run count as collapsed, and the audit of any text."""

"""An audit of any text or corpus: which samples are degenerate, by which rules, and what they share."""

"""How fast a step is, beside the authors' way, plain `transformers`, and what the machine could do."""

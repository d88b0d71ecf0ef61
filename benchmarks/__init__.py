"""The speed of a step, compared with the authors' method, plain `transformers` and the machine's limits."""

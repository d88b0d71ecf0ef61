"""The fast path: decoding, evaluation and updates near the machine's limits, each with the plain path it must equal.

`interface` says what an engine does. `plain` is the definition: the `transformers` module as it is. `native` (kernels
in C, compiled on first use) and `static` (torch) run the GPT-2 and Llama families; `choose` picks one.
"""

"""The embedded check of an answer against its context: no download, no network, milliseconds, always the same.

An answer becomes claims (``claims``), a text becomes words with stems and weights (``words``), its numbers get values
and units (``quantities``). Each claim is laid against the context (``features``), and small learned models (``trees``)
say how likely it is unsupported; ``checker`` puts this together and names the words.
"""

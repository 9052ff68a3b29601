"""The embedded check of an answer against its context: no download, no network, milliseconds, always the same.

An answer becomes claims (``claims``), a text becomes words with stems and weights (``words``), its numbers get values
and units (``quantities``). Each claim is laid against the context (``features``): its words (``evidence``, ``drafts``),
its numbers and names with what stands round them (``numbers``, ``names``, ``anchors``), and what it denies
(``polarity``). Small learned models (``trees``) say how likely it is unsupported; ``checker`` puts this together and
names the words.
"""

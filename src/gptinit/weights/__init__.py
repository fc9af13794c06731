"""Where a weight comes from when an operator needs it: one policy a file.

A policy installs the weights of one seed in a module (`policy.WeightsPolicy`), drawn from the
module's init program with a generator of its own for every draw (`draws.Draws`):

    dense    every weight drawn once and kept: exact for everything, memory for all parameters
    stream   a block's weights drawn when an operator touches them, again in the backward pass:
             the same values as dense, memory for one block
    lazy     matrices never drawn, only products with them: exact in distribution, memory linear in
             the width (17 s and 0.5 GB for a forward pass of GPT-3 175B on two CPU cores)

stream and lazy put a `tensor.WeightTensor` in the weight's place: a tensor without storage, whose
owner computes the result of every operator that meets it.
"""

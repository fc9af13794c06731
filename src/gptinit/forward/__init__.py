"""What a model's own forward does with its weights, recorded on eight tokens without computing it.

observe.py   runs the forward under the trace -> `Observation`: its graph and the calls of modules
graph.py     `Graph`: which node reads which, nodes of tokens apart from weights
residual.py  `Addition`s to the residual stream, and the matrix products that each one adds
values.py    `Values`: computes what lies between two nodes, in float64
norms.py     `Norm`s: which weight multiplies a vector that was just normalised
branches.py  the kind of every branch, and what each of its matrices does there
roles.py     `WeightUse`: the role of every weight (q, k, v, mlp_up ...) and its fans
blocks.py    `Decoder`: the blocks in order, and the `BlockSites` at which hooks see the stream
lens.py      `Tail`: what follows the last block, as a logit lens
flow.py      `Flow`: all of these for one model, or a note on why there are none

    ids -> embedding -> x ------------> + ------------> + ---> norm -> head -> logits
                        |--norm--attn--^ |--norm--mlp--^
                        stream  branch   stream branch    each + is an Addition

Names of classes play no part, so code that was never seen before is read too; where the forward
does not run, names of parameters decide (read/).
"""

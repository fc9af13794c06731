"""Measure what the init of a model does: run it once per seed and average what hooks record.

    Subject ----+
    RunConfig --+-> plan_run -> Plan -> SeedRunner, once per seed -> SeedResult, ... -> Profile
    tokens -----+                       |
                                        +- weights: dense, stream or lazy (gptinit.weights)
                                        +- probes: hooks at every block, statistics on the device

`Subject` is a model as measuring sees it: how to build and call it, what its parameters are drawn
from, where its blocks are; `builtin_subject`, `traced_subject` and `live_subject` make one. `Plan`
is a run with everything decided: device, engine, tokens, memory. `SeedResult` holds the numbers of
one seed, `Profile` their means. What theory predicts is added by `gptinit.api.prediction`.
"""

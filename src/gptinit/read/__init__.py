"""Factory in, init program out: the distribution and role of every parameter, and the hook points.

reading.py    traces the factory, follows its forward, and puts both together -> `Reading`
parameters.py one parameter: its `Law`, its role (the user's, else the forward's, else the name's),
              its fans, what was drawn before, and which other parameter it copies
norm_gains.py the effect of every norm, from the forward pass, else by running its module
role_names.py roles by name, where the forward does not run
live.py       the same for a module that is already built: its values are measured

    Factory -> trace -> module with traced parameters -> Laws   -+
                                                      -> Flow   -+-> ModelProgram, recipes
"""

"""Plain shapes of what comes out, without torch.

program     ModelProgram, ParameterProgram: how every parameter is initialised
profile     Profile, Place, Comparison, Finding, Note: statistics and what is wrong with them
changes     RoleChange: what an init changes of what the constructor drew
audit       Audit, AuditedParameter: a program compared with a scheme
rule        Rule: the documentation of a rule of the audit
averaging, scale, exponents, machine   from single seeds to a Profile
"""

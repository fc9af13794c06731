"""From profiles, bounds and a baseline to verdicts and findings.

check_config   gptinit.toml -> CheckConfig: models (ModelSpec), bounds, Acceptances
judge          Profile + Bounds -> BoundResult (ok, violated, inconclusive) -> Finding
baseline       Profile + a reviewed JSON file -> BoundResult, where a statistic has drifted
engine_agreement   Comparison of engines -> Agreement
student_t      quantiles of Student's t, which decide what is noise
"""

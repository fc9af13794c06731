"""A gate for continuous integration: bounds from a TOML file, a verdict, annotations.

Run: python examples/check_in_ci.py
On the command line: gptinit check --config examples/gptinit.toml --format github
"""

from pathlib import Path

import gptinit

CONFIG = Path(__file__).with_name("gptinit.toml")


def main() -> None:
    """Print the results that are not of single layers, the findings, and what CI would do."""
    report = gptinit.check(CONFIG)

    print(f"{'model':13}{'statistic':14}{'value':>14}  verdict")
    for result in report.results:
        if not result.where.startswith("layer ") and result.stderr is not None:
            value = f"{result.value:.3g} ± {result.stderr:.2g}"
            print(f"{result.model:13}{result.stat:14}{value:>14}  {result.verdict}")

    print()
    for finding in report.findings:
        print(f"{finding.severity}: {finding.location}")
        print(f"  {finding.message}")
    failed = any(finding.severity == "error" for finding in report.findings)
    print(f"\n`gptinit check` would exit with {int(failed)}.")


if __name__ == "__main__":
    main()

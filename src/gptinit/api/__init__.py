"""The verbs of gptinit: what the command line calls, and what a notebook would."""

import sys

if "IPython" in sys.modules:
    # Only a notebook needs reports to show a result: elsewhere they are not loaded.
    from gptinit.api.notebook import register_results

    register_results(sys.modules["IPython"].get_ipython())

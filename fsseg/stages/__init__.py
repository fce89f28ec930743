"""One module per stage: `run_<stage>(config)` returns a typed result, and `plan_<stage>(config)` what it would do.

Stages speak to each other through files only.
"""

"""One module per stage: `run_<stage>(config) -> manifest`. Stages speak to each other through files only."""

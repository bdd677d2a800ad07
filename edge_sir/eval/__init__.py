"""Does it remember? Tasks, a runner that plays them under many policies, and the statistics of what came out."""

"""Research on recorded rounds: what another rule would have done with the same adapters.

config      settings of the commands
simulating  `simulate`: every recorded round once more, under a policy
recorded    a run folder's rounds, read without changing it
policy      a policy's file: loaded, called, its mistakes named by line
seeing      what a policy sees: a round without names, and a gate
replaying   one round under a policy, beside what was recorded
comparing   both of them as a table, and as rows of the report
recording/  `record`: a set of real adapters with verdicts, to try policies on
"""

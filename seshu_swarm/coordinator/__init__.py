"""COORDINATOR: a maintainer's machine. Adapters in, next checkpoint out.

__main__      the command line                      config      settings of every command
opening       make a run: splits, catalogue         run_folder  where everything of a run lies
pretrain      the command that makes the base       pretraining the base from running text
pretraining_card  the card of that base             hold_outs   the run's held-out sets
ledger        what happened, in SQLite              rounds      states of a round (pure)
lifecycle     life of the coordinator               holding     the loop that holds a round
intake        donors hand in, ask for verdicts      gather      fetch, read strictly, strip names
judging       blind: from candidates to a verdict   scoring     what a mixture does, by language
search        the best mixture on the tuning split  selecting   who is merged, and why (pure)
publish       write the next checkpoint             round_report  verdicts and the report
inspect       status, round, verify
"""

"""COORDINATOR: a maintainer's machine. Adapters in, next checkpoint out.

__main__      the command line                     config      settings of every command
opening       make a run: splits, catalogue        run_folder  where everything of a run lies
pretraining   the base model from running text     ledger      what happened, in SQLite
rounds        states of a round (pure)             lifecycle   life of the coordinator
holding       the loop that holds a round          round_report  verdicts and the report
intake        donors hand in and ask for verdicts  gather      fetch, read strictly, strip names
judging       blind: from candidates to a verdict  scoring     what a candidate costs per language
selecting     which candidates, how much (pure)    publish     write and announce the next one
"""

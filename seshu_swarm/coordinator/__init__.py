"""COORDINATOR: a maintainer's machine. Adapters in, next checkpoint out.

__main__      the command line
config        settings of every command
lifecycle     `run`: serve the run, train it through peers, hold its rounds
showing/      `status`, `round`, `verify`: what the ledger says, and whether it is true
web/          `run --web`, `dashboard`: the run as a page for everybody
state/        what lies in the run's folder: paths and lock, ledger, hold-outs
opening/      `open`: make a run from text
pretraining/  `pretrain`: the base, from running text
conducting/   `run --stages N`: training through peers, its plan, its steps, its checkpoints
rounds/       states of a round, intake, gathering, holding, reporting
blind/        from candidates without names to a mixture, a gate, a final word
releasing/    the next checkpoint and its card
upkeep/       between rounds, and for the day the machine is lost
research/     what another rule would have done with recorded rounds
"""

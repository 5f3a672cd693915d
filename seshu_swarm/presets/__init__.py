"""Settings for training, from nano to 1.4b, as TOML for the commands' `--config`.

catalogue  what there is: command, sentence, parameters of each
config     settings of `python -m seshu_swarm presets`
listing    the command

Each file's first line names its command; `pretrain-SIZE.toml` makes a base of that size,
`continued*` trains a head further, `sft*` makes adapters, `federated*` holds rounds and takes part in
them, `train.toml` and `trainer.toml` train through peers. The kits (peer/presets,
coordinator/presets) say how a machine behaves; these say how a model is trained.
"""

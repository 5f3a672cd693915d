"""DEMO: a whole swarm round on one machine. It only starts the roles' own commands.

config     its settings                 board       live progress at a terminal
story      what happens, in order       outcome     the table and the report at the end
generation text in every language, compared with the whole model run here
"""

"""DEMO: a whole swarm round on one machine. It only starts the roles' own commands.

config     its settings                 children    processes, their events, their end
story      what happens, in order       board       live progress at a terminal
generation text in every language, compared with the whole model run here
outcome    the table and the report at the end
"""

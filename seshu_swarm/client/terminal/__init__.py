"""The commands of a person at a terminal.

generate, chat, status   the commands        lines      lines and Ctrl-C
talk       a conversation in one session
looking    what records say of the run      tables     the same for people (pure)
"""

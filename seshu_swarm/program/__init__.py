"""What every command is made of: from the line a person types to the numbers it prints.

    cli       one shape for every command line
    config    settings: dataclass, TOML, flags
    log       what a role says, as text or JSON
    progress  progress of long work
    waits     what is waited for, and how long
    running   one loop, one stop, no child left
    children  roles as child processes
    reports   the JSON report of a command

Knows no network, no tensors and no role.
"""

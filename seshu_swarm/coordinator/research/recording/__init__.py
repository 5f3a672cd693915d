"""`record`: a public set of real adapters with verdicts, to try policies on.

command  from a folder of text to a finished set, resumable
crowd    who takes part in which round, and how (pure)
story    the run and its donors as processes, round after round
forging  adapters that are no honest work, made from those that are
notes    what is done already, and how each adapter was made
finish   what the set does not need goes; a card says what it is
"""

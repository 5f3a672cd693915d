"""A run as a peer meets it: one model in the making, named by its link.

joining        into the swarm by a link, and the run as its coordinator signed it
following      its newest record, until its line forks
training_plan  its plan of pipelined training
"""

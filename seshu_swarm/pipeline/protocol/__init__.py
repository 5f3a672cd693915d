"""The pipeline's streams: strict, frozen messages, and what of them is what in `pipeline.messages`. Pure.

fields       names, ids, versions, groups, and how many there may be
steps        members and conductor
converting   orders, feeds and status, as messages and as the rules have them
passes       trainer and replica
groups       members of a group: averages and states
"""

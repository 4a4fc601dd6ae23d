"""A stand-in for Prolific: its API v1 for requesters, and a small side for participants, with books of their own.

    app       puts everything together, behind the faults
    api       the requester's URLs          people    the participants' URLs
    fields    what a study may say                  studies    a study's life
    places    who has a place, handing in           submissions  a submission and its status
    payments  approving, rejecting, bonuses         money      fees, what is locked, the balance
    groups    participant groups                    hooks      who subscribed to events
    events    sending them                          signing    signed arrival links
    filters   the filters that studies may use      documents  requests and replies
    tables    the books                             desk       one request: clock, transaction, errors

Where Prolific's documents leave something open, the stricter reading is taken, so that an adapter that works here has less
to fear there. Error codes and the wording of errors are ours; their form is Prolific's.
"""

"""Lays out tasks and mints sprites.

::

    tasks      which unit stands in which task, with which of its panels
    catch      obvious trials from the arm's own units
    practice   the practice trials of stimuli/practice
    layout     a task's trials in their order, and each trial's tiles in theirs
    pictures   one tile's pixels
    fidelity   a sprite's tiles as a browser decodes them, and how far they are from the originals
    avif_grid  many small AVIF images as one
    encoding   a task's sprites as AVIF: every tile at its own quality, all files of one size
    minting    sprite files: made once, kept, removed when stale
    amended    tasks that come after the plan: of a pilot, of an extension, in the place of bad ones
    begun      the plan that a study began with, which its store remembers
    plan       all of it, written down
    summary    what a plan asks for in people and money
"""

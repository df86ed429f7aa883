"""The one trainer: from a recipe to weights and the fields of a model card.

`sources` gives synthetic patients by number and `prepared` real ones, `batches` (with `crops`) makes the network's
input of them, `loader` (with `workers`) fetches it ahead; `module` is what Lightning trains, `misfits` what it refuses;
`course` decides after each step what is logged, saved and when to stop, `scores` (with `scoring`, `watch`) how good it
is; `checkpoints` is the run on disk, `beginning` where it starts, `memory` what it will need. `ranks` are the processes
that train together, `launch` starts them. `run.fit` puts all of it together. Imports torch, lightning, and the rooms
`losses`, `bank`, `channels`, `generator`, `augment`, `prepare`.
"""

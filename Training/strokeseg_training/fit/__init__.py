"""The one trainer: from a recipe to weights and the fields of a model card.

`sources` gives synthetic patients by number and `prepared` real ones, `batches` (with `crops`) makes the network's
input of them, `loader` fetches it ahead; `module` is what Lightning trains, `misfits` what it refuses; `course` decides
after each step what is logged, saved and when to stop, `scores` (with `scoring`, `watch`) how good it is; `checkpoints`
is the run on disk, `beginning` where it starts, `run.fit` puts them together. Imports torch, lightning, and the rooms
`losses`, `bank`, `channels`, `generator`, `augment`, `prepare`.
"""

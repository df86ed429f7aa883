"""The one trainer: from a recipe to weights and the fields of a model card.

`sources` gives patients by number, `batches` makes the network's input of them, `module` is what Lightning trains,
`course` decides after each step what is logged, scored, saved and when to stop, `checkpoints` is the run on disk,
`run.fit` puts them together. Imports torch, lightning, and the rooms `losses`, `bank`, `channels`, `generator`.
"""

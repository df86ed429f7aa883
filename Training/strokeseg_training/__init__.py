"""Training package of StrokeSeg: data sets, generator, training and export, without Slicer.

Imports the engine, never the module.
"""

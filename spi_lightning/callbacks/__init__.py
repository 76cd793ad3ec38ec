"""Lightning callbacks that analyse what an ensemble has selected: PSD, particle size, EM classes, overlap, examples.

Each is one file here and one YAML in ``conf/callbacks``, and works on the :class:`~spi_lightning.callbacks.stage.Stage`
that the Trainer runs: on batches of patterns it measures, at the end of the epoch the stage makes the selections, and
when all is over the callback tells what it found to every logger and to the run folder.
"""

"""Data sets: images float32 [B, H, W, C] in [0, 1], labels int32 [B].

`fbq.data.digits` lives on the device and is drawn inside of the training step,
by `train_batch(key, ...)` with `key = jax.random.fold_in(data_key, step)`.

Data sets of files have a module each, with the same functions.
`batches(config, seed, start_step, process_index, process_count)` yields
`(images, labels)` without end, from a step on, and of every batch the part that
is this process's. Batch number `n` is a function of `(config, seed, n)` alone,
so a run can resume at any step. `evaluation(config, process_index,
process_count, split)` yields `(images, labels, weights)` of one shape, every
image of "validation" or "test" once with weight 1; what fills the last batch
has weight 0. `samples(config, seed, count)` are images of the training split as
evaluation shows them, to calibrate with, and `counts(config)` the images of all
three splits. `fbq.data.holdout` says which images are for validation.
`check_settings(config)` raises before anything long starts.
`fbq.data.sources` picks the module by `config.name`.
"""


class DataError(RuntimeError):
  """A file of a data set that is missing or damaged; the message names it."""

"""Sources of images; one module per data set, all with one function.

`batches(config, seed)` yields `(images, labels)` without end: images float32
[B, R, R, channels] in [0, 1], labels int32 [B]. It reads `config.batch_size`,
`config.resolution` and whatever else its module documents. Batch number `n` is
a function of `(config, seed, n)` alone, so a run can resume at any step.

A module whose data live on the device also offers that function itself,
`train_batch(key, ...)`, for use inside a compiled step with
`key = jax.random.fold_in(data_key, step)`: see `fbq.data.digits`.

A module whose data are files takes `batches(config, seed, start_step,
process_index, process_count)`: the stream from a step on, and the part of every
batch that is this process's. Its `evaluation(config, process_index,
process_count)` yields `(images, labels, weights)` of one shape, every test
image once with weight 1; what fills the last batch has weight 0. Its
`samples(config, seed, count)` are images of the training split as evaluation
shows them, to calibrate with, and `counts(config)` the images of both splits.
Its `check_settings(config)` raises before anything long starts.
`fbq.data.sources` picks the module by `config.name`.
"""


class DataError(RuntimeError):
  """A file of a data set that is missing or damaged; the message names it."""

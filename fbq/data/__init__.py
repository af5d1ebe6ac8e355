"""Sources of images; one module per data set, all with one function.

`batches(config, seed)` yields `(images, labels)` without end: images float32
[B, R, R, channels] in [0, 1], labels int32 [B]. It reads `config.batch_size`,
`config.resolution` and whatever else its module documents. Batch number `n` is
a function of `(config, seed, n)` alone, so a run can resume at any step.

A module whose data live on the device also offers that function itself,
`train_batch(key, ...)`, for use inside a compiled step with
`key = jax.random.fold_in(data_key, step)`: see `fbq.data.digits`.
"""

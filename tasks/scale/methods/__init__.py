"""Kinds of scale, one file each (see tasks.registry): `Options` are the keys beside `kind` in the specification, and
`measure(context, options)` returns a `models.scale.MeasuredScale`."""

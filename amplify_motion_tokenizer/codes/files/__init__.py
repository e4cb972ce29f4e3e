"""Code formats, one module each; ``codes.formats`` is their table, docs/formats.md their reference."""

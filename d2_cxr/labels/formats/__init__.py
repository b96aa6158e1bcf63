"""Labels of annotation tools: one small parser a format, each into the one label table."""

"""The YAML language of experiments: schema, error texts, engine profiles, JSON Schema export."""

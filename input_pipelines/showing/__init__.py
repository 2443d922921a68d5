"""What `input_pipelines.show` shows of data: numbers, tables, a picture."""

"""Shows what a configuration's data are: python -m input_pipelines.show --config=my_table.py."""

from absl import app, flags

from trainer.describe import data

flags.adopt_module_key_flags(data)

if __name__ == "__main__":
    app.run(data.main, flags_parser=data.parse_flags)

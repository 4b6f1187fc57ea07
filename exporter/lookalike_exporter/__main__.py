"""Run the command line as `python -m lookalike_exporter`."""

from lookalike_exporter.cli.main import main

if __name__ == "__main__":
    main(prog_name="lookalike-exporter")

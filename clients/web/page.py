"""The script that Streamlit runs for each interaction; `run.py` starts it."""

from lookalike_gallery.app import main

main()

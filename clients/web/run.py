"""The entry point: `streamlit run run.py`."""

from lookalike_gallery.app import main

main()

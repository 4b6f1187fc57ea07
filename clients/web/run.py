"""What Streamlit runs: `streamlit run run.py`."""

from lookalike_gallery.app import main

main()

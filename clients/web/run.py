"""The entry point: `streamlit run run.py`."""

import streamlit as st
from starlette.middleware import Middleware

from lookalike_gallery.http_guard import HttpGuard

app = st.App("page.py", middleware=[Middleware(HttpGuard)])

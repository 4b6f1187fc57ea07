"""Credentials: what a call may come with, and whom and what each stands for."""

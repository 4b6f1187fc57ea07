"""Third-party tools, which learn the API by reflection."""

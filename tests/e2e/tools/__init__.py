"""Other people's tools, which know the API by reflection alone."""

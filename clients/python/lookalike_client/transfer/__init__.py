"""Files in and out: catalogs, features and exports."""

"""How the daemon's objects are made from the settings, one module for each subject; `dms/bootstrap.py` is the entry."""

"""What the application needs from outside, as Protocols, one module for each subject; `dms/adapters/` implements them.

All of them are asyncio: an adapter hides its threads, its processes and its trio.
Every call is bounded in time by the adapter and raises a DmsError, never a library's own error.
"""

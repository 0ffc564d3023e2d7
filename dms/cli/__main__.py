"""`python -m dms.cli` is `nunet`."""

from dms.cli.main import main

main()

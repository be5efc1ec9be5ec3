"""`make bench`, `make bench-peers` and `make load`: measures check-services and writes the results into docs/performance.md."""

import sys

from bench import check_path, load, peers
from processes import Failed

MEASUREMENTS = {"bench": check_path.main, "bench-peers": peers.main, "load": load.main}

if __name__ == "__main__":
    name = sys.argv[1]
    try:
        MEASUREMENTS[name]()
    except Failed as error:
        sys.exit(f"make {name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"make {name}: interrupted")

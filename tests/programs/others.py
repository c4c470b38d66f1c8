"""Servers that have little to gain, and must not notice: how they are configured and started."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.programs import Program, which

from aiofastsocket.preload import preload_path

BIN = Path(sys.executable).parent

APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
LogLevel warn
User www-data
Group www-data
LoadModule mpm_{mpm}_module /usr/lib/apache2/modules/mod_mpm_{mpm}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{second}
DocumentRoot {folder}/www
<Directory {folder}/www>
  Require all granted
</Directory>
StartServers {servers}
ServerLimit {servers}
{limits}
"""

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"hello\\n"})
"""

NODE = """
const cluster = require('cluster');
const http = require('http');
cluster.schedulingPolicy = process.argv[3] === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  process.on('SIGTERM', () => {
    let left = 2;
    cluster.on('exit', () => { if (--left === 0) process.exit(0); });
    for (const id in cluster.workers) cluster.workers[id].kill();
  });
} else {
  http.createServer((q, a) => a.end('hello\\n')).listen(+process.argv[2], '127.0.0.1');
}
"""


def redis(folder: Path, port: int, preloaded: bool) -> Program:
    options = ["--bind", "127.0.0.1", "--save", "", "--dir", folder]
    command = [which("redis-server"), "--port", str(port), *options]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def memcached(folder: Path, port: int, preloaded: bool) -> Program:
    options = ["-t", "4", "-u", "nobody", "-l", "127.0.0.1"]
    command = [which("memcached"), "-p", str(port), *options]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def apache(folder: Path, port: int, preloaded: bool, *, mpm: str, second: int) -> Program:
    limits = {
        "event": "ThreadsPerChild 8\nMaxRequestWorkers 16\nThreadLimit 8",
        "prefork": "MaxRequestWorkers 12\nMinSpareServers 12\nMaxSpareServers 20",
    }
    (folder / "www").mkdir(exist_ok=True)
    (folder / "www" / "index.html").write_text("hello\n")
    conf = folder / "apache.conf"
    conf.write_text(
        APACHE.format(
            folder=folder,
            port=port,
            second=second,
            mpm=mpm,
            limits=limits[mpm],
            servers=2 if mpm == "event" else 12,
        )
    )
    command = [which("apache2"), "-f", conf, "-DFOREGROUND"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def gunicorn(folder: Path, port: int, preloaded: bool, *, kind: str) -> Program:
    (folder / "wsgi.py").write_text(WSGI)
    threads = ["--threads", "4"] if kind == "gthread" else []
    options = ["-w", "2", "-k", kind, *threads, "-b", f"127.0.0.1:{port}", "--log-level", "warning"]
    command = [BIN / "gunicorn", *options, "wsgi:application"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def uvicorn(folder: Path, port: int, preloaded: bool) -> Program:
    (folder / "asgi.py").write_text(ASGI)
    options = ["--workers", "2", "--loop", "uvloop", "--port", str(port), "--log-level", "warning"]
    command = [BIN / "uvicorn", *options, "asgi:app"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def node(folder: Path, port: int, preloaded: bool, *, policy: str) -> Program:
    (folder / "cluster.js").write_text(NODE)
    command = [which("node"), folder / "cluster.js", str(port), policy]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def postgres(folder: Path, port: int, preloaded: bool) -> Program:
    """As the user postgres, who must be able to read the library."""
    bin_folder = max(Path("/usr/lib/postgresql").iterdir()) / "bin"
    data = folder / "data"
    data.mkdir()
    shutil.chown(data, "postgres")
    user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
    subprocess.run(
        [*user, bin_folder / "initdb", "-D", data, "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    library = Path(shutil.copy(preload_path(), folder))
    library.chmod(0o755)
    log = folder / f"fsocket-{port}.log"
    log.touch(0o666)
    log.chmod(0o666)
    settings = [f"LD_PRELOAD={library}", f"FSOCKET_LOG=info:{log}"] if preloaded else []
    options = ["-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
    program = Program(
        [*user, "env", *settings, bin_folder / "postgres", "-D", data, *options],
        folder=folder,
        port=port,
        preloaded=False,
        env={"LC_ALL": "C"},
    )
    assert os.stat(f"/proc/{program.pid}").st_uid != 0
    return program

"""Configuration and start of servers that gain little from the library, and must not notice it."""

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


TORNADO = """
import asyncio, sys
import tornado.netutil, tornado.process, tornado.web
from tornado.httpserver import HTTPServer

class Hello(tornado.web.RequestHandler):
    def get(self):
        self.write("hello\\n")

sockets = tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1")
tornado.process.fork_processes(2)

async def main():
    HTTPServer(tornado.web.Application([("/", Hello)])).add_sockets(sockets)
    await asyncio.Event().wait()

asyncio.run(main())
"""

UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  num-threads: 4
  so-reuseport: no
  do-udp: no
  incoming-num-tcp: 100
  username: "{user}"
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-not-query-localhost: no
  local-zone: "here." static
  local-data: "some.here. A 192.0.2.7"
remote-control:
  control-enable: no
"""

H2O = """
listen: {{ host: 127.0.0.1, port: {port} }}
num-threads: 2
user: root
hosts:
  default:
    paths:
      /: {{ file.dir: {folder}/www }}
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
    threads = {"gthread": ["--threads", "4"], "gevent": ["--graceful-timeout", "3"]}.get(kind, [])
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
    """Start PostgreSQL as the user postgres. This user must be able to read the library."""
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


def uwsgi(folder: Path, port: int, preloaded: bool, *, options: tuple[str, ...]) -> Program:
    (folder / "wsgi.py").write_text(WSGI)
    (folder / "touched").touch()
    listen = ["--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2"]
    run = ["--plugin", "python3", "--wsgi-file", folder / "wsgi.py", "--need-app", *options]
    command = [which("uwsgi"), *listen, *run, "--disable-logging"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def tornado(folder: Path, port: int, preloaded: bool) -> Program:
    (folder / "server.py").write_text(TORNADO)
    command = [sys.executable, folder / "server.py", str(port)]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def waitress(folder: Path, port: int, preloaded: bool) -> Program:
    (folder / "wsgi.py").write_text(WSGI)
    command = [BIN / "waitress-serve", f"--listen=127.0.0.1:{port}", "wsgi:application"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def unbound(folder: Path, port: int, preloaded: bool) -> Program:
    conf = folder / "unbound.conf"
    conf.write_text(UNBOUND.format(port=port, folder=folder, user="nobody"))
    command = [which("unbound"), "-d", "-p", "-c", conf]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def h2o(folder: Path, port: int, preloaded: bool) -> Program:
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("hello\n")
    (folder / "h2o.conf").write_text(H2O.format(port=port, folder=folder))
    command = [which("h2o"), "-c", folder / "h2o.conf"]
    return Program(command, folder=folder, port=port, preloaded=preloaded)


def mosquitto(folder: Path, port: int, preloaded: bool) -> Program:
    conf = folder / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser nobody\n")
    command = [which("mosquitto"), "-c", conf]
    return Program(command, folder=folder, port=port, preloaded=preloaded)

# The steps of a new user on a machine without a compiler. fresh.py runs this inside the machine,
# offline. Usage: fresh.sh PYTHON USER
set -eu
python=$1 user=$2
home="/tmp/a new user's"
as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$home" "$@"; }
# Start a command in the background: its process id is in $started, its output in the file $1.
start() {
  log=$1; shift
  setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$home" "$@" >"$log" 2>&1 &
  started=$!
}
say() { echo "fresh: $*"; }

ip link set lo up
for compiler in cc gcc clang tcc; do # not with `!`: its failure never ends a script
  if command -v "$compiler"; then echo "$compiler is present: this machine must not have a compiler"; exit 1; fi
done
mkdir -p "$home" && chown "$user:$user" "$home" && cd "$home"
cat >app.py <<'APP'
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d\n" % os.getpid()})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi\n"]
APP
before=$(find / -xdev -path /proc -prune -o -name '*fastsocket*' -print | sort)

as_user "$python" -m venv venv
as_user venv/bin/pip install -q --no-index --find-links /wheels aiofastsocket
say "installed: $(as_user venv/bin/aiofastsocket --version)"

start serve.log venv/bin/aiofastsocket serve app:app -w 2 -b 127.0.0.1:8000 --no-access-log
for _ in $(seq 100); do grep -q 'serving app:app' serve.log && break; sleep 0.1; done
for _ in $(seq 50); do curl -s http://127.0.0.1:8000/; done | sort | uniq -c >answers
[ "$(wc -l <answers)" = 2 ] || { cat serve.log answers; exit 1; }
as_user venv/bin/aiofastsocket stats 8000 | grep -q 'slots, steering spread'
kill "$started"; wait "$started"
say "serve: two workers answered: $(tr -s " " <answers | cut -d" " -f2 | tr "\n" " ")"

start serve.log venv/bin/aiofastsocket serve app:wsgi -b 127.0.0.1:8000
for _ in $(seq 100); do grep -q 'serving app:wsgi' serve.log && break; sleep 0.1; done
[ "$(curl -s http://127.0.0.1:8000/)" = wsgi ] || { cat serve.log; exit 1; }
kill "$started"; wait "$started"
say "serve: WSGI"

# The dynamic linker accepts no path with a space. An error says so, and another venv runs nginx.
if as_user venv/bin/aiofastsocket exec -- nginx -v 2>refused; then exit 1; fi
grep -q 'LD_PRELOAD cannot name a path with a space' refused
plain=/tmp/plain
mkdir "$plain" && chown "$user:$user" "$plain"
as_user "$python" -m venv "$plain/venv"
as_user "$plain/venv/bin/pip" install -q --no-index --find-links /wheels aiofastsocket
cat >nginx.conf <<CONF
worker_processes 2; daemon off; pid $plain/pid; error_log $plain/error.log info;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path $plain; proxy_temp_path $plain;
  fastcgi_temp_path $plain; uwsgi_temp_path $plain; scgi_temp_path $plain;
  server { listen 127.0.0.1:8001; return 200 "nginx\n"; }
}
CONF
start nginx.log "$plain/venv/bin/aiofastsocket" exec --log-level info -- \
  /usr/sbin/nginx -e "$plain/error.log" -c "$home/nginx.conf"
for _ in $(seq 100); do [ "$(curl -s http://127.0.0.1:8001/)" = nginx ] && break; sleep 0.1; done
for _ in $(seq 20); do
  [ "$(curl -s http://127.0.0.1:8001/)" = nginx ] || { cat nginx.log "$plain/error.log"; exit 1; }
done
as_user "$plain/venv/bin/aiofastsocket" stats 8001 >stats
grep -q ' slots, steering' stats || { cat stats nginx.log "$plain/error.log"; exit 1; }
kill "$started"; wait "$started"
say "exec: nginx has slots"

# Other installers find the same wheels.
answers() { # COMMAND serves the demo
  start serve.log "$1" serve -w 1 -b 127.0.0.1:8002
  for _ in $(seq 100); do grep -q 'serving the built-in demo' serve.log && break; sleep 0.1; done
  curl -s http://127.0.0.1:8002/ | grep -q "^worker " || { cat serve.log; exit 1; }
  kill "$started"; wait "$started"
}
export UV_NO_CACHE=1 # files in uv's cache would count as left behind
as_user "$plain/venv/bin/pip" install -q --no-index --find-links /wheels uv pipx
as_user "$plain/venv/bin/uv" venv -q --offline --python "$python" by-uv
as_user "$plain/venv/bin/uv" pip install -q --offline --no-index \
  --find-links /wheels -p by-uv aiofastsocket
answers by-uv/bin/aiofastsocket
say "uv: serves"
as_user "$plain/venv/bin/pipx" install -q --python "$python" \
  --pip-args="--no-index --find-links /wheels" aiofastsocket >/dev/null
answers "$home/.local/bin/aiofastsocket"
say "pipx: serves"
as_user "$plain/venv/bin/pipx" uninstall aiofastsocket >/dev/null
rm -f "$home/.local/share/pipx/venvs/.aiofastsocket.lock" # pipx leaves this file
as_user "$plain/venv/bin/uv" pip uninstall -q -p by-uv aiofastsocket
as_user "$plain/venv/bin/pip" uninstall -q -y aiofastsocket
as_user venv/bin/pip uninstall -q -y aiofastsocket
rm -rf serve.log
after=$(find / -xdev -path /proc -prune -o -name '*fastsocket*' -print | sort)
[ "$before" = "$after" ] || { echo "files are left behind: $after"; exit 1; }
say "uninstalled: nothing is left"

# Install the sdist on a machine with a compiler and Python's headers. fresh.py runs this inside the
# machine, offline. Usage: fresh-source.sh PYTHON USER
set -eu
python=$1 user=$2
home="/tmp/a new user's"
as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$home" "$@"; }

ip link set lo up
mkdir -p "$home" && chown "$user:$user" "$home" && cd "$home"
as_user "$python" -m venv venv
as_user venv/bin/pip install -q --no-index --find-links /wheels /sdist/*.tar.gz
setpriv --reuid "$user" --regid "$user" --clear-groups env HOME="$home" \
  venv/bin/aiofastsocket serve -w 2 -b 127.0.0.1:8000 >serve.log 2>&1 &
started=$!
for _ in $(seq 100); do grep -q 'serving the built-in demo' serve.log && break; sleep 0.1; done
curl -s http://127.0.0.1:8000/ | grep -q '^worker ' || { cat serve.log; exit 1; }
kill "$started"; wait "$started"
echo "fresh: the sdist was built, and serves"

# Run the machine's own nginx with libfsocket.so alone. fresh.py runs this inside the machine.
set -eu
ip link set lo up
cat >/tmp/nginx.conf <<CONF
user root; worker_processes 2; daemon off; pid /tmp/pid; error_log /tmp/error.log info;
events { worker_connections 64; }
http { access_log off; server { listen 127.0.0.1:8001; return 200 "nginx\n"; } }
CONF
mkdir -p /var/lib/nginx /var/log/nginx
LD_PRELOAD=/libfsocket.so FSOCKET_LOG=info:/tmp/log nginx -c /tmp/nginx.conf >/tmp/nginx.log 2>&1 &
nginx=$!
for _ in $(seq 100); do [ "$(curl -s http://127.0.0.1:8001/)" = nginx ] && break; sleep 0.1; done
for _ in $(seq 20); do
  [ "$(curl -s http://127.0.0.1:8001/)" = nginx ] || { cat /tmp/nginx.log /tmp/error.log /tmp/log; exit 1; }
done
grep -q '8001: 8 slots\|8001: [0-9]* slots, steering' /tmp/log || { cat /tmp/log /tmp/nginx.log; exit 1; }
kill "$nginx"; wait "$nginx"
echo "fresh: nginx has slots"

#!/bin/sh
# Inside the guest, as root, with the host's files read-only: start.sh BIN MODULE [PYTEST ARGUMENTS]
bin=$1
module=$2
shift 2
ip link set lo up
mount -t tmpfs none /var/log 2>/dev/null
mkdir -p /run/fastsocket && export TMPDIR=/run/fastsocket # the writable folder of the guest
export PATH="$bin:$PATH:/usr/sbin:/sbin" PYTHONDONTWRITEBYTECODE=1 TEST_WAIT_SECONDS=150 FASTSOCKET_MODULE="$module"
uname -r
"$bin/pytest" tests/kernel/guest -m kernel -p no:cacheprovider --basetemp=/run/fastsocket/pytest --timeout 600 "$@"
result=$?
dmesg | grep -vE "^\[ *[0-9.]+\] (9pnet|random|cgroup)" | tail -n 30
[ $result = 0 ] && echo "guest: passed"

# Each target is one task; README and .ci/run call the same targets. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
BIN     = $(VENV)/bin
PYTEST_ARGS ?=
# Tests mostly wait, so four processes run them, even on two cores. A file's tests share a process.
TOGETHER ?= -n 4 --dist loadfile
export PIP_DISABLE_PIP_VERSION_CHECK = 1

SOURCES := $(shell find aiofastsocket native pyproject.toml LICENSE README.md -type f \
             -not -path '*/__pycache__/*' -not -path 'native/tests/*')

.PHONY: serve dev quick test test-native test-python test-programs test-over-tls test-sanitized test-kernel test-kernel-debug docs wheels free-threaded test-fresh test-arm64 test-newer release-check fuzz fuzz-page module bench bench-full lint format clean

serve: $(VENV)/installed
	@echo "In another terminal:  curl http://$(HOST):$(PORT)/        (and again: the workers take turns)"
	@echo "                      ss -ltn 'sport = :$(PORT)'          (a listener for each slot; every worker has one)"
	@exec $(BIN)/aiofastsocket serve --host $(HOST) --port $(PORT)

# Make an editable installation in its own environment. After an edit of Python, nothing is needed.
# After an edit of C, run this again: ninja builds the changed files in seconds.
DEV = $(VENV)-dev
dev: $(DEV)/ready
	@PATH="$(abspath $(DEV))/bin:$$PATH" $(DEV)/bin/pip install -q --no-build-isolation --no-deps -e . \
	  -C build-dir=build/dev -C cmake.build-type=RelWithDebInfo -C cmake.define.FS_WERROR=ON -C cmake.define.FS_TESTS=ON

$(DEV)/ready: pyproject.toml
	@echo "making $(DEV) ..."
	@$(MAKE) --no-print-directory VENV=$(DEV) $(DEV)/tools
	@$(DEV)/bin/pip install -q --group build
	@touch $@

# Run some tests of each kind, in less than a minute.
QUICK = tests/structure tests/unit tests/asgi/test_http.py tests/asgi/test_websocket.py tests/loops \
  $(addprefix tests/integration/test_,kinds.py crash.py) -k "not asyncio and not tls and not TLS"
quick: dev packages
	@$(DEV)/bin/ctest --test-dir build/dev --output-on-failure -E stress
	$(DEV)/bin/pytest -q $(TOGETHER) $(or $(PYTEST_ARGS),$(QUICK))

test: test-native test-python

# Run the C tests, plain and under AddressSanitizer and UndefinedBehaviorSanitizer.
test-native: $(VENV)/tools
	@for sanitize in OFF ON; do \
	  PATH="$(abspath $(BIN)):$$PATH" && \
	  cmake -S native -B build/native-$$sanitize -G Ninja -DFS_PYTHON=OFF -DFS_TESTS=ON \
	    -DFS_WERROR=ON -DFS_SANITIZE=$$sanitize >build/cmake.log 2>&1 || { cat build/cmake.log; exit 1; }; \
	  ninja -C build/native-$$sanitize --quiet && \
	  ctest --test-dir build/native-$$sanitize --output-on-failure || exit 1; \
	done

# Test the installed package: the source tree is not on the path.
test-python: $(VENV)/installed $(VENV)/tools packages
	$(BIN)/pytest $(TOGETHER) $(PYTEST_ARGS)

# Test the pump, HTTP, and workers that start, end and fail, with the package built under
# AddressSanitizer and UndefinedBehaviorSanitizer.
# The test of a fork while another thread runs is left out: AddressSanitizer's allocator may be locked.
# The tests count leaks themselves: the interpreter keeps memory that LeakSanitizer would report.
SANITIZED = $(VENV)-sanitized
WITH_SANITIZERS = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc
test-sanitized: $(SANITIZED)/installed
	$(WITH_SANITIZERS) $(SANITIZED)/bin/pytest $(TOGETHER) tests/loops $(PYTEST_ARGS) \
	  --deselect tests/loops/test_the_rest.py::test_fork_beside_a_running_loop
	$(WITH_SANITIZERS) $(SANITIZED)/bin/pytest $(TOGETHER) -k uvloop \
	  $(addprefix tests/integration/test_,crash.py reload.py even.py hostile_worker.py proxy_protocol.py)
	$(WITH_SANITIZERS) $(SANITIZED)/bin/pytest $(TOGETHER) -k "(uvloop and not memory) or exchange or corpus" \
	  $(addprefix tests/asgi/test_,exchange.py corpus.py http.py responses.py websocket.py wsgi.py faults.py tls.py)

$(SANITIZED)/installed: $(VENV)/installed
	@$(MAKE) --no-print-directory VENV=$(SANITIZED) $(SANITIZED)/tools
	@$(SANITIZED)/bin/pip install -q . -C cmake.define.FS_SANITIZE=ON -C cmake.build-type=Debug
	@touch $@

# Measure this server and its peers in turns: benchmarks/README.md.
bench bench-full:
	@$(call install,cc wrk ab curl openssl nginx haproxy lighttpd,gcc wrk apache2-utils curl openssl nginx-light haproxy lighttpd)
	$(PYTHON) benchmarks/run.py $(if $(filter bench-full,$@),--full) $(BENCH_ARGS)

# Test other projects' servers, plain and with libfsocket.so. It takes minutes, so `test` omits it.
test-programs: $(VENV)/installed $(VENV)/tools
	@$(call install,nginx haproxy lighttpd apache2 redis-server redis-benchmark memcached node pgbench ab wrk \
	  uwsgi_python3 unbound h2o mosquitto valgrind promtool fish zsh systemd-analyze, \
	  nginx-light haproxy lighttpd apache2 redis-server redis-tools memcached nodejs postgresql apache2-utils wrk \
	  uwsgi-core uwsgi-plugin-python3 unbound h2o mosquitto valgrind prometheus fish zsh systemd)
	@$(BIN)/pip install -q --group programs --group deploy
	$(BIN)/pytest $(TOGETHER) tests/programs tests/unit tests/asgi tests/integration tests/conformance -m "programs or long" -raP $(PYTEST_ARGS)

# Run the HTTP tests again, with every service over TLS.
test-over-tls: $(VENV)/installed $(VENV)/tools packages
	TEST_OVER_TLS=1 $(BIN)/pytest $(TOGETHER) tests/asgi -k "not uvicorn and not test_tls" $(PYTEST_ARGS)

# Build the documentation site into build/docs. A warning is an error.
docs: $(VENV)/installed $(VENV)/pip
	@$(BIN)/pip install -q --group docs
	$(BIN)/sphinx-build -q -W --keep-going -E -b html docs build/docs

# Build a wheel for every CPython, machine and libc, and the sdist, into dist/: about four minutes.
WHEELS = $(VENV)-wheels
wheels: $(WHEELS)/ready
	$(WHEELS)/bin/python deploy/wheels.py $(WHEELS_ARGS)

# Check that it compiles for the free-threaded Pythons. None is available here to run it.
free-threaded: $(WHEELS)/ready
	$(WHEELS)/bin/python deploy/wheels.py --free-threaded

# Test the wheels on machines without a compiler, made of Debian packages: deploy/fresh.py.
test-fresh: $(WHEELS)/ready
	@$(call install,mmdebstrap unshare,mmdebstrap util-linux)
	@[ -e /lib/ld-musl-x86_64.so.1 ] || $(call install,musl-is-no-program,musl)
	$(WHEELS)/bin/python deploy/fresh.py $(FRESH_ARGS)

# Test the aarch64 wheel on an aarch64 Debian, in an emulator.
test-arm64: $(WHEELS)/ready
	@$(call install,mmdebstrap qemu-system-aarch64 cpio,mmdebstrap qemu-system-arm cpio)
	$(WHEELS)/bin/python deploy/arm64.py

# Run the tests on CPython 3.14 or 3.15, in a chroot of Debian sid, with the wheel for it.
NEWER ?= 3.15
test-newer: $(WHEELS)/ready
	@$(call install,mmdebstrap unshare,mmdebstrap util-linux)
	$(WHEELS)/bin/python deploy/newer.py $(NEWER) -- $(TOGETHER) $(or $(PYTEST_ARGS),tests/unit tests/structure tests/loops tests/asgi)

# Build the files to publish, check them, and install them on fresh machines. Then dist/ is ready.
release-check: wheels
	$(WHEELS)/bin/python deploy/audit.py
	@$(MAKE) --no-print-directory test-fresh

$(WHEELS)/ready: pyproject.toml
	@$(MAKE) --no-print-directory VENV=$(WHEELS) $(WHEELS)/bin/python
	@$(WHEELS)/bin/pip install -q -U pip && $(WHEELS)/bin/pip install -q --group wheels
	@touch $@

# Send random bytes to the HTTP layer for FUZZ_SECONDS. New inputs stay in build/fuzz.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/installed $(VENV)/tools
	@$(BIN)/pip install -q --group fuzz
	@mkdir -p build/fuzz
	$(BIN)/python tests/fuzz/run.py -max_total_time=$(FUZZ_SECONDS) -max_len=2000 \
	  -dict=tests/fuzz/http.dict -artifact_prefix=build/fuzz/ build/fuzz tests/fuzz/corpus

# Put random bytes in the place of a listen table's page, for FUZZ_SECONDS.
fuzz-page:
	@$(call install,clang,clang libclang-rt-14-dev)
	@mkdir -p build/fuzz-page
	clang -std=gnu11 -g -O1 -D_GNU_SOURCE -DFS_FUZZER -fsanitize=fuzzer,address,undefined \
	  -Inative/include -Inative/core native/core/*.c native/tests/fuzz_page.c -o build/fuzz_page
	build/fuzz_page -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -artifact_prefix=build/fuzz-page/ build/fuzz-page

# Build the kernel module for kernel KERNEL, by default the running one: docs/kernel-module.md.
module:
	@$(MAKE) --no-print-directory -C native/module

# Test the module in Debian's kernels 6.1, 6.12 and sid's newest, booted in QEMU: about forty minutes.
KERNELS ?= 6.1 6.12 newest
test-kernel: $(VENV)/installed $(VENV)/tools
	@$(call install,qemu-system-x86_64 busybox depmod dkms nginx haproxy lighttpd ab setpriv mmdebstrap, \
	  qemu-system-x86 busybox-static kmod dkms nginx-light haproxy lighttpd apache2-utils util-linux mmdebstrap)
	@dpkg -s linux-headers-amd64 linux-headers-6.12-amd64 >/dev/null 2>&1 || \
	  $(call install,headers-are-no-program,linux-headers-amd64 linux-headers-6.12-amd64)
	@$(BIN)/pip install -q --group kernel
	$(BIN)/python tests/kernel/run.py $(KERNELS) -- $(PYTEST_ARGS)

# Run the module's own tests in a kernel with KASAN and lockdep, which is built first: over an hour.
test-kernel-debug:
	@$(call install,flex bison bc,linux-source-6.1 flex bison bc libelf-dev libssl-dev)
	@$(MAKE) --no-print-directory test-kernel KERNELS=debug PYTEST_ARGS="-k test_abi"

# Install Debian packages (2) for programs (1), unless all programs are present. policy-rc.d keeps
# packages from starting their servers during the installation.
define install
( PATH="$$PATH:/usr/sbin"; for program in $(1); do command -v $$program || exit 1; done ) >/dev/null || \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    policy=/usr/sbin/policy-rc.d; mine=; \
    [ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' >$$policy && chmod +x $$policy && mine=1; }; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends $(2) >/dev/null; result=$$?; \
    [ -z "$$mine" ] || rm -f $$policy; exit $$result; fi
endef

# Install the programs that tests call, if this may install Debian packages. Those tests need them.
.PHONY: packages
packages:
	@$(call install,ss curl openssl setpriv gosu,iproute2 curl openssl util-linux gosu)

lint: $(VENV)/installed $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --python-executable $(BIN)/python
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'native/*.[ch]' 'tests/kernel/*.[ch]' ':!native/cffi')

format: $(VENV)/lint
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'native/*.[ch]' 'tests/kernel/*.[ch]' ':!native/cffi')

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "aiofastsocket needs Python 3.11 or later; set its path: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	@echo "installing aiofastsocket into $(VENV) ..."
	@$(BIN)/pip install -q .
	@touch $@

# pip 23, which CPython 3.11 brings, does not read dependency groups; the newest does.
$(VENV)/pip: $(VENV)/bin/python
	@$(BIN)/pip install -q --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/tools: $(VENV)/pip pyproject.toml
	@$(BIN)/pip install -q --group test --group native && mkdir -p build
	@touch $@

$(VENV)/lint: $(VENV)/pip pyproject.toml
	@$(BIN)/pip install -q --group test --group lint
	@touch $@

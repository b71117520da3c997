# Two commands matter: `make demo` and `make test`. Both install what they need on Debian 12 or 13, as root.
SHELL := /bin/bash
PYTHON := /usr/bin/python3
BIN := .venv/bin
SYSTEM_PACKAGES := arch-test ca-certificates cryptsetup-bin dbus-daemon debian-archive-keyring e2fsprogs gnupg gpgv iproute2 ipxe-qemu \
	libtpm2-pkcs11-1 libtpm2-pkcs11-tools libtss2-tcti-tabrmd0 mmdebstrap mtools nftables openssh-client openssl ovmf poppler-utils procps \
	python3 python3-venv qemu-system-x86 qemu-utils seabios shellcheck softhsm2 swtpm systemd-container tpm2-abrmd \
	tpm2-tools util-linux xz-utils zstd

.PHONY: help setup demo test beside test-nightly test-opal-compat check unit fuzz mutation molecule vm bench clean constraints docs
help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

setup: build/.system .venv/.ready ## install what the other targets need

build/.system: Makefile
	@mkdir -p build
	@missing=$$(for p in $(SYSTEM_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q ^ii || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		[ "$$(id -u)" = 0 ] || { echo "missing packages, run as root: apt-get install $$missing" >&2; exit 1; }; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $$missing; \
	fi
	@touch $@

.venv/.ready: pyproject.toml constraints.txt build/.system
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[build,dev,gateway,postgres,timestamp,token]'
	@touch $@

demo: setup ## the whole path in two virtual machines, ending with an answer
	$(BIN)/python -m tests.vm.demo

test: check ## everything that CI runs, in two lanes
	+$(MAKE) --no-print-directory --jobs 2 vm beside

beside: # an emulated guest keeps one core busy; this takes the other, one after another
	+MAKEFLAGS= nice $(MAKE) --no-print-directory unit fuzz molecule

check: setup ## lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy docs/generate.py
	$(BIN)/mypy tests/vm tests/opal_drive tests/roles tests/bundles.py tests/containers.py
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --profile production
	$(BIN)/python -c 'from bundler.media import kit; print(kit.script("start.sh"))' | shellcheck -s sh -
	$(BIN)/python -c 'from bundler.media import kit; print(kit.script("check.sh"))' | shellcheck -s sh -
	shellcheck -s sh bundler/install/remote/far.sh custody/ledger/check.sh

unit: setup ## tests that need no virtual machine
	$(BIN)/coverage run -m pytest -q tests/unit/trust tests/unit/appliance/test_inventory.py
	$(BIN)/coverage report
	$(BIN)/pytest -q tests/unit tests/attack --ignore tests/unit/trust

fuzz: setup ## random bytes for every parser that reads a medium before a signature is checked
	$(BIN)/python -m tests.fuzz 12

molecule: setup ## every role in a container, then killed there
	$(BIN)/python -m tests.roles prepare
	cd tests/roles && PATH="$$PWD/bin:$(CURDIR)/$(BIN):$$PATH" molecule --base-config molecule/config.yml test --all
	$(BIN)/pytest -q tests/roles --ignore tests/roles/molecule

vm: setup ## the whole path in virtual machines, looked at closely
	$(BIN)/pytest -q tests/vm

test-nightly: setup ## what takes hours; stopped, it goes on with the next case (build/nightly keeps what passed)
	$(BIN)/pytest -q tests -m nightly --resume build/nightly

test-opal-compat: setup ## cryptsetup's own test of OPAL, from Debian's source package, on the emulated drive
	$(BIN)/pytest -q tests/vm/test_opal_compat.py -m nightly

mutation: setup ## change custody/trust line by line and see that a test fails; hours, resumable
	$(BIN)/mutmut run
	$(BIN)/python -m tests.mutants

bench: setup ## figures beside peers, in one run each; worth something on a machine that does nothing else
	$(BIN)/python -m tests.bench.gateway
	$(BIN)/python -m tests.bench.ledger build
	$(BIN)/python -m tests.bench.diode build
	$(BIN)/python -m tests.roles prepare
	$(BIN)/python -m tests.bench.engines

docs: setup ## write the reference pages and man pages that the code itself knows
	$(BIN)/python docs/generate.py

constraints: ## pin the versions that tests run with, from the environment as it is
	$(BIN)/pip freeze --all --exclude setuptools --exclude-editable > constraints.txt

clean: ## remove what runs made (caches in ~/.cache/airgap stay)
	rm -rf build .venv

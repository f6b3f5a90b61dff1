# Everything runs on the project's own Node.js where the machine's is too old; see scripts/runtime.sh.
SHELL := /bin/sh
RUN := sh scripts/with-node.sh

.PHONY: all build demo test test-22 check bench fuzz fixtures peers sea docs clean install format

all: build

install:
	@sh scripts/install.sh

build: install
	@$(RUN) scripts/build.ts

demo: build
	@$(RUN) scripts/demo.ts

test: build
	@$(RUN) node_modules/vitest/vitest.mjs run

# The same tests on the oldest Node.js line that is supported; ROOMS="test/layer/ …" names some of them.
test-22: build
	@OCISEAL_NODE=22 $(RUN) node_modules/vitest/vitest.mjs run $(ROOMS)

check: build
	@$(RUN) scripts/check.ts

bench: build
	@$(RUN) bench/main.ts $(BENCH)

# A minute of mutated inputs for every parser; FUZZ="--seconds 3600 --seed 1 --only Rego" for others.
fuzz: install
	@$(RUN) test/fuzz/night.ts $(FUZZ)

peers:
	@sh scripts/peers.sh

fixtures: install
	@$(RUN) registry-fixtures/make.ts

sea: build
	@$(RUN) scripts/sea.ts

docs: build
	@$(RUN) scripts/docs.ts
	@$(RUN) scripts/site.ts

format: install
	@$(RUN) node_modules/oxfmt/bin/oxfmt .

clean:
	rm -rf dist docs-site .demo .bench coverage

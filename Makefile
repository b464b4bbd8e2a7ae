# The commands of this repository; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Node 24 and every tool of the repository come with its packages.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

# npm writes this file as the last step of an installation.
packages := node_modules/.package-lock.json
generated := proto/gen/descriptors.binpb
# tap is put together from the plugins that .taprc chooses, which only tests need.
runner := node_modules/.tap-built
contracts := $(shell find proto -name '*.proto' -not -path 'proto/gen/*') buf.gen.yaml scripts/protoc-gen-armature/generate.ts \
  $(wildcard scripts/protoc-gen-armature/*.ts)

.PHONY: help install gen up down clean status logs demo seed token call verify reconcile crash keys cold-start test prove races faults mutants check fmt \
  certs access-matrix access-diff dead-letters dead-letter redrive drop baseline sagas saga resume compensate

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(packages) ## Install the packages that package-lock.json pins

gen: $(packages) ## Generate code from the contracts
	@node scripts/protoc-gen-armature/generate.ts

up: ready ## Start servers and services; running it again starts what is missing
	@node scripts/devmesh/up.ts

down: ready ## Stop everything that was started here, and nothing else
	@node scripts/devmesh/down.ts

clean: ready ## Stop everything and remove its data (.run)
	@node scripts/devmesh/down.ts --clean

status: ready ## Show what runs
	@node scripts/cli/status.ts

logs: ready ## Show a log: make logs S=orders
	@node scripts/cli/logs.ts $(S)

demo: up ## Start everything, place orders, and show what happens
	@node scripts/demo/main.ts

token: ready ## Print an access token: make token AS=customer:ada
	@node scripts/cli/print-token.ts

seed: up ## Load the demonstration catalogue
	@node scripts/demo/seed.ts

call: ready ## Call a method: make call RPC=<package.Service/Method> DATA='{...}' AS=customer:ada
	@node scripts/cli/call.ts

verify: ready ## Hold the running mesh to every invariant, and say what breaks them
	@node scripts/cli/verify.ts

reconcile: ready ## Compare the ledger with the acquirer's log; APPLY=1 resolves what can be
	@node scripts/cli/reconcile.ts

crash: ready ## Kill everything at every point under load, heal, verify: DURATION=60 SEED= POINTS=a,b RECORD=1
	@node test/verification/crash/main.ts

keys: ready ## Send keys again and again while everything is killed: KEYS=10000 SENDS=5 SEED=
	@node test/verification/crash/keys-main.ts

cold-start: ready ## Kill everything at once and start it in any order: ROUNDS=20 SEED= RECORD=1
	@node test/verification/crash/cold-start-main.ts

test: ready $(runner) ## Run the tests; FILES="a.test.ts b.test.ts" chooses some
	@node scripts/checks/test.ts $(FILES)

prove: ready $(runner) ## Run the long variants of all tests, every fault, race and mutation, and crash runs; takes hours
	@ARMATURE_TEST_TIER=long ARMATURE_STATEMENT_ROWS=1000000 node scripts/checks/test.ts
	@for seed in 1 2 3; do DURATION=600 SEED=$$seed node test/verification/crash/main.ts || exit 1; done
	@ARMATURE_TEST_TIER=long node test/verification/mutation/main.ts

faults: ready $(runner) ## Take the database, the broker, the network and the clock away from a running shop, one after another
	@node scripts/checks/test.ts test/verification/faults/*.test.ts

races: ready $(runner) ## Run every interleaving of racing requests; DEPTH=full leaves out none that comes to the same
	@ARMATURE_TEST_TIER=long ARMATURE_RACES_DEPTH=$(DEPTH) node scripts/checks/test.ts test/verification/races/*.test.ts

mutants: ready $(runner) ## Make classic mistakes in a copy, one after another, and see each noticed: ONLY=words
	@ARMATURE_TEST_TIER=long node test/verification/mutation/main.ts

check: ready ## Check types, style, contracts and house rules
	@node scripts/checks/check.ts

dead-letters: ready ## List what services could not handle: S=service TYPE=event REASON=text
	@node scripts/cli/ops/dead-letters-command.ts

dead-letter: ready ## Show one, without personal data: make dead-letter S=notifications ID=…
	@node scripts/cli/ops/dead-letter-command.ts

redrive: ready ## Handle dead letters again: make redrive S=notifications ID=… or TYPE=… [APPLY=1]
	@node scripts/cli/ops/redrive-command.ts

drop: ready ## Give a dead letter up for good: make drop S=notifications ID=… WHY='…'
	@node scripts/cli/ops/drop-command.ts

baseline: ready ## Bring a consumer up to date: make baseline FROM=orders TO=notifications AGGREGATE=order [IDS=a,b SKIP_HISTORY=1] [APPLY=1]
	@node scripts/cli/ops/baseline-command.ts

sagas: ready ## List sagas that have not ended: S=service STATE=stuck
	@node scripts/cli/ops/sagas-command.ts

saga: ready ## Show one and its history: make saga S=orders ID=…
	@node scripts/cli/ops/saga-command.ts

resume: ready ## Let stuck sagas go on: make resume S=orders ID=… or SAGA=… STEP=… REASON=… OLDER=seconds [APPLY=1]
	@node scripts/cli/ops/resume-command.ts

compensate: ready ## Turn a saga back before its pivot: make compensate S=orders ID=… WHY='…'
	@node scripts/cli/ops/compensate-command.ts

access-matrix: ready ## Show who may call and publish what; FILE=another.csv FORMAT=csv|md
	@node scripts/cli/access-matrix.ts

access-diff: ready ## Show what policy and contracts open and close since a commit: make access-diff BASE=main
	@node scripts/cli/access-diff.ts $(BASE)

fmt: $(packages) ## Format the code
	@biome check --write .
	@buf format --write --exclude-path proto/buf --exclude-path proto/google --exclude-path proto/grpc

certs: ready ## Renew certificates that are about to end; STEP=start, switch, retire changes the authority
	@node scripts/cli/certs.ts $(STEP)

.PHONY: ready
ready: $(packages) $(generated)

$(packages): package-lock.json
	@scripts/node/require-node.sh
	npm ci --prefer-offline --no-fund --no-audit --loglevel=error
	@touch $@

$(runner): .taprc | $(packages)
	@tap build > /dev/null
	@touch $@

$(generated): $(contracts) | $(packages)
	@node scripts/protoc-gen-armature/generate.ts
	@touch $@

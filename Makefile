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
contracts := $(shell find proto -name '*.proto' -not -path 'proto/gen/*') buf.gen.yaml scripts/protoc-gen-armature/generate.ts \
  $(wildcard scripts/protoc-gen-armature/*.ts)

.PHONY: help install gen up down clean status restart dev logs demo seed token call verify reconcile crash keys cold-start test prove races \
  faults mutants check runtime-graph fmt certs secrets access-matrix access-diff access-explain access-apply dead-letters dead-letter redrive \
  drop baseline sagas saga resume compensate

# Each target but install, gen, runtime-graph, fmt and help is the armature command of the same name: `scripts/cli/armature --help`. A variable
# of a target becomes a flag: $(call flag,DATA,data) is --data "$DATA" where DATA is set, $(call switch,APPLY,apply) is
# --apply where APPLY is 1. The shell reads their values from the environment, so that quotes in them stay as they are.
flag = $${$(1):+--$(2) "$$$(1)"}
switch = $(if $(filter 1,$($(1))),--$(2))
armature := scripts/cli/armature

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(packages) ## Install the packages that package-lock.json pins

gen: $(packages) ## Generate code from the contracts
	@node scripts/protoc-gen-armature/generate.ts

runtime-graph: ready ## Show which folders of the runtime import which
	@node scripts/checks/runtime-graph.ts

fmt: $(packages) ## Format the code
	@biome check --write .
	@buf format --write --exclude-path proto/buf --exclude-path proto/google --exclude-path proto/grpc

up: ready ## Start servers and services; running it again starts what is missing
	@$(armature) up

down: ready ## Stop everything that was started here, and nothing else
	@$(armature) down

clean: ready ## Stop everything and remove its data (.run)
	@$(armature) down --clean

status: ready ## Show what runs
	@$(armature) status

restart: ready ## Restart services with the code as it is now: make restart S="orders payments"
	@$(armature) restart $(S)

dev: ready ## Restart a service at every change of its code, and show its log: make dev S=orders
	@$(armature) dev $(S)

logs: ready ## Show a log: make logs S=orders
	@$(armature) logs $(S)

demo: ready ## Start everything, place orders, and show what happens
	@$(armature) demo

seed: ready ## Start everything and load the demonstration catalogue
	@$(armature) seed

certs: ready ## Renew certificates that are about to end; STEP=start, switch, retire changes the authority
	@$(armature) certs $(STEP)

secrets: ready ## Show the replacement of secrets; STEP=start, switch, retire replaces them, FORCE=1
	@$(armature) secrets $(STEP) $(call switch,FORCE,force)

token: ready ## Print an access token: make token AS=customer:ada
	@$(armature) token $(call flag,AS,as)

call: ready ## Call a method: make call RPC=<Service/Method> DATA='{...}' AS=customer:ada [S=service]
	@$(armature) call $${RPC:+"$$RPC"} $(call flag,DATA,data) $(call flag,AS,as) $(call flag,S,service)

dead-letters: ready ## List what services could not handle: S=service TYPE=event REASON=text
	@$(armature) dead-letters list $(call flag,S,service) $(call flag,TYPE,type) $(call flag,REASON,reason) $(call flag,AS,as)

dead-letter: ready ## Show one, without personal data: make dead-letter S=notifications ID=…
	@$(armature) dead-letters show $${ID:+"$$ID"} $(call flag,S,service) $(call flag,AS,as)

redrive: ready ## Handle dead letters again: make redrive S=notifications ID=… or TYPE=… [APPLY=1]
	@$(armature) dead-letters redrive $${ID:+"$$ID"} $(call flag,S,service) $(call flag,TYPE,type) $(call flag,REASON,reason) \
	  $(call switch,APPLY,apply) $(call flag,AS,as)

drop: ready ## Give a dead letter up for good: make drop S=notifications ID=… WHY='…'
	@$(armature) dead-letters drop $${ID:+"$$ID"} $(call flag,S,service) $(call flag,WHY,why) $(call flag,AS,as)

baseline: ready ## Bring a consumer up to date: make baseline FROM=orders TO=notifications AGGREGATE=order [IDS=a,b SKIP_HISTORY=1] [APPLY=1]
	@$(armature) baseline $(call flag,FROM,from) $(call flag,TO,to) $(call flag,AGGREGATE,aggregate) $(call flag,IDS,ids) \
	  $(call switch,SKIP_HISTORY,skip-history) $(call switch,APPLY,apply) $(call flag,AS,as)

sagas: ready ## List sagas that have not ended: S=service STATE=stuck
	@$(armature) sagas list $(call flag,S,service) $(call flag,STATE,state) $(call flag,AS,as)

saga: ready ## Show one and its history: make saga S=orders ID=…
	@$(armature) sagas show $${ID:+"$$ID"} $(call flag,S,service) $(call flag,AS,as)

resume: ready ## Resume stuck sagas: make resume S=orders ID=… or SAGA=… STEP=… REASON=… OLDER=seconds [APPLY=1]
	@$(armature) sagas resume $${ID:+"$$ID"} $(call flag,S,service) $(call flag,SAGA,saga) $(call flag,STEP,step) \
	  $(call flag,REASON,reason) $(call flag,OLDER,older-than) $(call switch,APPLY,apply) $(call flag,AS,as)

compensate: ready ## Turn a saga back before its pivot: make compensate S=orders ID=… WHY='…'
	@$(armature) sagas compensate $${ID:+"$$ID"} $(call flag,S,service) $(call flag,WHY,why) $(call flag,AS,as)

access-matrix: ready ## Show who may call and publish what; FILE=another.csv FORMAT=csv|md
	@$(armature) access matrix $(call flag,FILE,file) $(call flag,FORMAT,format)

access-diff: ready ## Show what policy and contracts open and close since a commit: make access-diff BASE=main
	@$(armature) access diff $(BASE)

access-explain: ready ## Explain whether a subject may do something: make access-explain SUBJECT=user:ada PERMISSION=orders.cancel
	@$(armature) access explain $${SUBJECT:+"$$SUBJECT"} $${PERMISSION:+"$$PERMISSION"} $(call flag,WORKLOAD,workload) $(call flag,AS,as)

access-apply: ready ## Compare deploy/policy.csv with the policy in force, and apply the difference: FILE=another.csv [PRUNE=1] [APPLY=1]
	@$(armature) access apply $(call flag,FILE,file) $(call switch,PRUNE,prune) $(call switch,APPLY,apply) $(call flag,AS,as)

verify: ready ## Check every invariant of the running mesh
	@$(armature) verify

reconcile: ready ## Compare the ledger with the acquirer's log; APPLY=1 records outcomes that the ledger lacks
	@$(armature) reconcile $(call switch,APPLY,apply)

check: ready ## Check types, style, contracts and house rules
	@$(armature) check

test: ready ## Run the tests; FILES="a.test.ts b.test.ts" chooses some
	@$(armature) test $(FILES)

crash: ready ## Crash test: kill processes at named points under load, restart, verify: DURATION=60 SEED= POINTS=a,b RECORD=1
	@$(armature) crash $(call flag,DURATION,duration) $(call flag,SEED,seed) $(call flag,POINTS,points) $(call switch,RECORD,record)

keys: ready ## Idempotency test: repeat requests while processes are killed: KEYS=10000 SENDS=5 SEED=
	@$(armature) keys $(call flag,KEYS,keys) $(call flag,SENDS,sends) $(call flag,SENDERS,senders) $(call flag,STORM,storm) \
	  $(call flag,SEED,seed)

cold-start: ready ## Kill everything at once and start it in any order: ROUNDS=20 SEED= RECORD=1
	@$(armature) cold-start $(call flag,ROUNDS,rounds) $(call flag,SEED,seed) $(call switch,RECORD,record)

races: ready ## Run every interleaving of racing requests; DEPTH=full leaves out none that is equivalent to another
	@$(armature) races $(call flag,DEPTH,depth)

faults: ready ## Fault injection for database, broker, network and clock
	@$(armature) faults

mutants: ready ## Mutation test: apply known bugs to a copy, and check that a test catches each: ONLY=words
	@$(armature) mutants $(call flag,ONLY,only)

prove: ready ## Run the long variants of everything, write .run/prove.json and a table; takes hours: ONLY=tests,races,faults,keys,cold-start,crash,mutants
	@$(armature) prove $(call flag,ONLY,only)

.PHONY: ready
ready: $(packages) $(generated)

$(packages): package-lock.json
	@scripts/node/require-node.sh
	npm ci --prefer-offline --no-fund --no-audit --loglevel=error
	@touch $@

$(generated): $(contracts) | $(packages)
	@node scripts/protoc-gen-armature/generate.ts
	@touch $@

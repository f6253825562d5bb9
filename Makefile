# `make help` lists the targets. Everything the tests need beside Go is installed by `make deps`.
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
CACHE ?= $(HOME)/.cache/belfry
FUZZTIME ?= 10s
TESTFLAGS ?=
BENCHFLAGS ?= --markdown cmd/belfry/bench/RESULTS.md --curves cmd/belfry/bench/curves.svg

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/belfry
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/belfry ./cmd/belfry

.PHONY: run
run: build ## build, start a node with its agent, print where everything is
	./bin/belfry server

.PHONY: demo
demo: build ## a node with load that fills its disk: alarms and the guard at work, in about a minute
	./bin/belfry demo

.PHONY: deps
deps: ## install what the tests need beside Go: kcat, Prometheus, Java, Maven, Python (Debian), Kafka's tools, confluent-kafka
	./cmd/belfry/compat/deps.sh '$(CACHE)'

.PHONY: lint
lint: ## gofmt and vet
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted: $$out"; exit 1; fi
	go vet ./...

# Rooms whose tests run the real program, clients and servers: those that want the machine for themselves one after the
# other, those that wait for periods to pass two at a time.
# The race detector watches the program where the foreign clients drive it (compat); a ledger of hundreds of thousands of
# messages under it would take the time of all the rest.
BUSY := ./cmd/belfry/bench ./cmd/belfry/chaos ./cmd/belfry/crash
PATIENT := ./cmd/belfry/demo ./cmd/belfry/truth ./cmd/belfry/watch ./dashboards/promtest
export BELFRY_CACHE := $(CACHE)

# -count 1: go test does not see that the program which a test starts has changed.
.PHONY: test
test: deps lint ## everything CI runs
	go test -race -count 1 -timeout 10m $(TESTFLAGS) $(filter-out $(patsubst ./%,github.com/belfry-mq/belfry/%,$(BUSY) $(PATIENT)),$(shell go list ./...))
	go test -count 1 -timeout 10m -p 1 $(TESTFLAGS) $(BUSY)
	go test -count 1 -timeout 10m -p 2 $(TESTFLAGS) $(PATIENT)

.PHONY: compat
compat: deps ## every client and tool against a node and against three, long form
	BELFRY_LONG=1 go test -count 1 -timeout 120m -v ./cmd/belfry/compat

.PHONY: chaos
chaos: deps ## kill -9 under load, full disks, a cluster through BELFRY_CHAOS_TIME (1h) of faults: the long form
	BELFRY_LONG=1 BELFRY_CHAOS_REPORT='$(CURDIR)/cmd/belfry/chaos/REPORT.md' go test -count 1 -timeout 240m -p 1 -v ./cmd/belfry/crash ./cmd/belfry/chaos

.PHONY: fuzz
fuzz: ## every fuzzer for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

.PHONY: bench
bench: build ## a node, and three, side by side with Apache Kafka, klite, NATS JetStream and the machine's limits; BENCHFLAGS='--only produce --rounds 3'
	./cmd/belfry/bench/peers.sh '$(CACHE)'
	./bin/belfry bench --cache '$(CACHE)' $(BENCHFLAGS)

.PHONY: generate
generate: ## write dashboards and rule files again
	go generate ./...

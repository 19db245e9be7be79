# Everything that is done with this repository, by name: `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || true)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
TOOL    := $(GO) tool -modfile=tools/go.mod

# Go files that are ours: all that git knows or would add, else all there are.
GOFILES = $(shell git ls-files -co --exclude-standard -- '*.go' 2>/dev/null | sort -u | xargs -r ls -d 2>/dev/null || find . -name '*.go')

# How large the demo is; `make demo DEMO_USERS=20000` makes it larger.
DEMO_USERS ?= 2000
DEMO_DIR   ?= $(CURDIR)/data/demo
# Seconds that fuzz-smoke gives to each target.
FUZZ_TIME  ?= 20s
# How long soak kills processes, the rows of its large transaction, and the bytes
# of its large value.
MINUTES    ?= 3
SOAK_ROWS  ?= 10000000
SOAK_VALUE ?= 268435456
# What bench measures: all sections, or ONLY=stream,backfill; FULL=1 adds the largest
# sizes. All sections leave their record in docs, some leave theirs in data.
FULL      ?=
ONLY      ?=
BENCH_DIR ?= data/bench
BENCH_OUT ?= $(if $(ONLY),data/bench-results,docs)
# Further arguments of go test: `make test TEST_FLAGS='-race -run Resume'`.
TEST_FLAGS ?=

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what the tests and the demo need and this machine lacks (Debian, as root).
	@./tools/deps.sh

.PHONY: build
build: ## Build bin/ingest and bin/snapshot, static and stamped with the version.
	$(BUILD) -o bin/ingest ./cmd/ingest
	$(BUILD) -o bin/snapshot ./cmd/snapshot

.PHONY: fmt
fmt: ## Format all Go files.
	@$(TOOL) gofumpt -w $(GOFILES)

.PHONY: fmt-check
fmt-check: ## Fail if a Go file is not formatted.
	@unformatted=$$($(TOOL) gofumpt -l $(GOFILES)); \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt mends it):"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet: ## Run go vet.
	$(GO) vet ./...
	@if [ -f oracle/go.mod ]; then cd oracle && CGO_ENABLED=1 $(GO) vet ./...; fi

.PHONY: lint
lint: ## Run golangci-lint with .golangci.yml, which includes staticcheck.
	$(TOOL) golangci-lint run --concurrency 2 ./...

.PHONY: tidy-check
tidy-check: ## Fail if go.mod or go.sum of the product or the tools is not tidy.
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff

# As root the power cut test mounts a file system; DREAMFEED_POWERCUT=skip leaves it
# out for who is not.
.PHONY: test
test: deps ## Run every test: of the product, and of the oracle module (needs a C compiler).
	$(GO) test -timeout 15m $(TEST_FLAGS) ./...
	@if [ -f oracle/go.mod ]; then set -x; cd oracle && CGO_ENABLED=1 $(GO) test -timeout 15m $(TEST_FLAGS) ./...; fi

.PHONY: soak
soak: deps ## Kill, crash and cut the power under load for MINUTES, and more that CI runs smaller.
	cd cmd/ingest && $(GO) test -count=1 -timeout $$(( $(MINUTES) * 2 + 30 ))m -run '^TestSoak$$' -soak $(MINUTES)m
	$(GO) test -count=1 -timeout 60m ./cmd/ingest -run '^TestCrash' -crash.every
	$(GO) test -count=1 -timeout 60m ./cmd/ingest -run '^TestPowerCut' -powercut.rounds 30
	$(GO) test -count=1 -timeout 120m ./internal/cases -run '^TestLargeTransactions$$' -large.rows $(SOAK_ROWS) -large.value $(SOAK_VALUE)

.PHONY: fuzz-smoke
fuzz-smoke: ## Fuzz each target for FUZZ_TIME, two at a time.
	@GO='$(GO)' ./tools/fuzz.sh $(FUZZ_TIME)

.PHONY: demo
demo: deps build ## Show the whole chain on a throw-away PostgreSQL and leave a dataset.
	$(GO) run ./deploy/demo -users $(DEMO_USERS) -dir "$(DEMO_DIR)"

.PHONY: bench-build
bench-build: build ## Build what the benchmark runs, the DuckDB side too (needs a C compiler).
	$(BUILD) -o bin/bench ./internal/bench
	cd oracle && CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -o ../bin/bench-duck ./bench

.PHONY: bench
bench: deps bench-build ## Measure all beside what bounds it (10 minutes), or ONLY some; FULL=1 the largest sizes too (an hour, 40 GB).
	bin/bench -dir "$(BENCH_DIR)" -duck bin/bench-duck -commit "$(VERSION)" -o "$(BENCH_OUT)" $(if $(ONLY),-only "$(ONLY)") $(if $(FULL),-full)

.PHONY: bench-smoke
bench-smoke: deps build ## Measure the smallest sizes and fail if a ratio is far below the recorded one.
	$(BUILD) -o bin/bench ./internal/bench
	bin/bench -dir "$(BENCH_DIR)" -smoke -baseline docs/benchmarks.json

.PHONY: ci
ci: tidy-check fmt-check vet lint test fuzz-smoke bench-smoke ## Run what a change must pass, and end with a small demo.
	$(MAKE) demo DEMO_USERS=300 DEMO_DIR='$(CURDIR)/data/ci-demo'

.PHONY: clean
clean: ## Remove what was built; data stays.
	rm -rf bin

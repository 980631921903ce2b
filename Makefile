SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

STORE    ?= file
FUZZTIME ?= 30s
SDK      ?= v1.51.0
MODULES  := . cmd/temporal-atmostonce samples bench databases
BIN      := $(CURDIR)/.cache/bin
LINTER   := $(BIN)/golangci-lint-$(shell sed -n 's|.*golangci/golangci-lint/v2 v\([^ ]*\).*|\1|p' tools/golangci-lint/go.mod)

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## charge 20 orders without and 20 with the guard, on a real server (STORE=file, redis or postgres)
	@tools/need $(if $(filter redis,$(STORE)),redis-server) $(filter postgres,$(STORE))
	@cd samples && go build -buildvcs=false -o $(BIN)/demo ./demo
	@exec $(BIN)/demo -store $(STORE) -data samples/demo-data

.PHONY: dashboard
dashboard: ## run order sagas under faults, and show their traces, metrics and alerts in a browser
	@tools/need redis-server gcc g++
	@cd samples && go build -buildvcs=false -o $(BIN)/dashboard ./dashboard
	@exec $(BIN)/dashboard -data samples/dashboard-data

.PHONY: test
test: ## run every test with the race detector; a skipped test is a failure
	@tools/need redis-server gcc g++ promtool prometheus chromium postgres mariadbd pgbouncer $(if $(filter Linux,$(shell uname)),strace)
	@GOOS=darwin CGO_ENABLED=0 go vet ./store ./store/redisstore # which differ there, and cannot be run here
	@cd samples && go run ./internal/cmd/tools temporal-cli trace-viewer victoria-metrics vmalert
	@for module in $(MODULES) tools/house; do \
		echo "testing $$module with the race detector (the first time, compiling takes minutes)"; \
		(cd $$module && CGO_ENABLED=1 go test -race -shuffle=on -timeout 15m -v ./... 2>&1) | awk -f tools/summary.awk || exit 1; \
	done

.PHONY: check
check: ## build and vet everything, and run the tests that need nothing but Go, in a minute or two
	@for module in $(MODULES); do (cd $$module && go build ./... && go vet ./...) || exit 1; done
	@go test -short -shuffle=on -timeout 5m -v ./... 2>&1 | awk -v short=1 -f tools/summary.awk

.PHONY: sdk
sdk: ## run the tests of what uses Temporal's SDK, and the end-to-end tests, with another version of it (SDK=v1.51.0)
	@tools/need redis-server gcc g++ promtool postgres $(if $(filter Linux,$(shell uname)),strace)
	@cd samples && go run ./internal/cmd/tools temporal-cli
	@echo "testing with SDK $(SDK) and the race detector (the first time, compiling takes minutes)"
	@for module in . samples; do \
		tests=". ./activity/... ./interceptor/... ./keys/... ./telemetry/..."; [ $$module = . ] || tests=./e2e; \
		copy=$(CURDIR)/.cache/sdk/$$module; mkdir -p $$copy; cp $$module/go.mod $$module/go.sum $$copy; \
		go mod edit -require=go.temporal.io/sdk@$(SDK) $$copy/go.mod; \
		(cd $$module && go mod tidy -modfile=$$copy/go.mod && \
			CGO_ENABLED=1 go test -modfile=$$copy/go.mod -race -shuffle=on -timeout 15m -v $$tests 2>&1) | awk -f tools/summary.awk || exit 1; \
	done

.PHONY: histories
histories: ## check that 2,000 histories of concurrent calls to each store are linearizable
	@tools/need redis-server postgres mariadbd
	@go test ./store ./store/redisstore -run '_Linearizable$$' -count=1 -timeout 30m -v -histories 2000 | \
		{ grep -vE '^ *(===|--- PASS)' || true; }
	@cd databases && go test -run '_Linearizable$$' -count=1 -timeout 30m -v -histories 2000 | \
		{ grep -vE '^ *(===|--- PASS)' || true; }

.PHONY: docs
docs: ## write what README.md and the pages in docs quote and measure
	@cd samples && go run ./internal/cmd/tools temporal-cli
	go test -run 'TestReadme|TestStability|TestFunctions' . -update
	go test -run TestDocs ./interceptor -update
	cd samples && go test -run 'TestErrors|TestCauses' ./e2e -update
	cd cmd/temporal-atmostonce && go test -run 'TestRunbook|TestText_OfEvery' ./cli -update

.PHONY: pictures
pictures: ## take the pictures in the documentation again, from the running dashboard
	@tools/need redis-server gcc g++ prometheus chromium
	cd samples && go test ./dashboard -count=1 -timeout 15m -run TestDashboard -pictures

.PHONY: lint
lint: $(LINTER) ## check format, vet, style and the structure of the packages
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	@for module in $(MODULES) tools/house; do (cd $$module && go vet ./... && $(LINTER) run ./...) || exit 1; done
	@cd tools/house && go run . -dir $(CURDIR) -methods 32 -files 3 -knot 10 >/dev/null

$(LINTER):
	@echo "building $(notdir $@), once, about 5 minutes ..."
	@cd tools/golangci-lint && CGO_ENABLED=0 go build -buildvcs=false -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: house
house: ## measure the packages: methods, knots, names, lines
	@cd tools/house && go run . -dir $(CURDIR)

.PHONY: bench
bench: ## measure what the guard costs beside floors and peers, in a quarter of an hour; writes BENCHMARKS.md (BENCH=-quick: two minutes)
	@tools/need redis-server
	@cd samples && go run ./internal/cmd/tools temporal-cli
	@cd bench && go build -buildvcs=false -o $(BIN)/bench . && exec $(BIN)/bench $(BENCH)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME=30s
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' keys store activity interceptor internal telemetry httponce 2>/dev/null | \
	while IFS=: read -r file target; do \
		go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" || exit 1; \
	done

.PHONY: tidy
tidy: ## tidy the go.mod files and format the code
	@for module in $(MODULES); do (cd $$module && go mod tidy); done
	gofmt -w .

.PHONY: clean
clean: ## remove what these targets made, the tools that they built included
	rm -rf .cache samples/demo-data samples/dashboard-data samples/webhook-data samples/apiorder-data samples/nightly-data

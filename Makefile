# Wardnet. `make` prints this help; each target's comment is its help text.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
VERSION ?= 0.2.0
LDFLAGS := -s -w -X main.version=$(VERSION)
# One set of compile flags for build, vet, staticcheck and tests, so that a cold
# machine compiles the dependencies once. 'make test' runs itself with the second
# set: everything it starts, the lab and the journey included, is watched by the
# race detector. Not watched is what others wrote that only computes: SQLite (C
# translated to Go), its migrations, cryptography, OPA. It takes up to ten times
# longer watched, and shares no memory with us.
PLAIN := CGO_ENABLED=0 GOFLAGS="$$(go env GOFLAGS) -trimpath"
COMPUTE := modernc.org golang.org/x/crypto github.com/pressly/goose github.com/open-policy-agent
RACED := CGO_ENABLED=1 GOFLAGS="$$(go env GOFLAGS) -race -gcflags=all=-d=checkptr=0$(foreach m,$(COMPUTE), -gcflags=$(m)/...=-race=false) -gcflags=github.com/wardnet/wardnet/...="
FLAGS ?= $(PLAIN)
PART ?= A
PKGS := ./...

.PHONY: help deps deps-accept deps-demo build web demo test lint check accept bench fuzz golden clean

help: ## print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what tests need on Debian (root), or say what is missing
	@./scripts/deps.sh test

deps-accept:
	@./scripts/deps.sh accept

deps-demo:
	@./scripts/deps.sh demo

web: ## build the console into console/static (needs npm)
	@./scripts/web.sh

build: web ## build bin/wardnet and bin/wardnet-edge, console included
	@mkdir -p bin
	$(PLAIN) $(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/wardnet ./cmd/wardnet-edge

demo: deps-demo build ## on a fresh machine: set up, build, tell the whole story once, stay up
	./bin/wardnet demo $(DEMO)

lint: ## gofumpt, go vet, staticcheck (each rule's reason: docs/lint.md)
	@out=$$($(PLAIN) $(GO) tool gofumpt -l $$(git ls-files '*.go' ':!*.pb.go')); [ -z "$$out" ] || { echo "not formatted, run: go tool gofumpt -w ."; echo "$$out"; exit 1; }
	$(FLAGS) $(GO) vet -tags lab $(PKGS)
	@tool=$$($(PLAIN) $(GO) tool -n staticcheck) && $(FLAGS) $$tool -tags lab $(PKGS)

check: lint ## fast loop: lint and unit tests without the race detector
	$(PLAIN) $(GO) test $(PKGS)

# Tests in network namespaces that take long have the build tag lab: lint sees
# them, and accept PART=B runs them. The browser journey and the small lab mostly
# wait, so they run beside the tests of the packages; vet has run in lint. A
# race-instrumented program sleeps a second before it exits, unless told
# otherwise, and goes on after a race: the script tests start hundreds, and
# nobody may miss one.
test: FLAGS = $(RACED)
test: export GORACE = atexit_sleep_ms=50 halt_on_error=1
test: export WARDNET_BIN_DIR = .cache/race
test: deps web lint ## on a fresh machine: set up, build, lint, all tests, browser journey and a small real lab with the race detector
	@mkdir -p $(WARDNET_BIN_DIR)
	$(FLAGS) $(GO) build -o $(WARDNET_BIN_DIR)/ ./cmd/wardnet ./cmd/wardnet-edge
	@{ ./scripts/browser.sh && ./scripts/lab.sh; } >.cache/beside.log 2>&1 & beside=$$!; \
	$(FLAGS) ./scripts/gotest.sh -vet=off -timeout 12m $(PKGS); packages=$$?; \
	wait $$beside; others=$$?; cat .cache/beside.log; \
	[ $$packages -eq 0 ] && [ $$others -eq 0 ]

accept: deps-accept build ## PART=A: everything else the parts name; writes docs/acceptance.json; FROM=check goes on with a run that was cut off
	$(GO) run ./labs/accept -part '$(PART)' -out docs/acceptance.json $(if $(FROM),-from '$(FROM)')

bench: ## benchmarks, as ratios where a peer exists
	$(GO) test -run '^$$' -bench . -benchtime 1s $(PKGS)

fuzz: ## each fuzz target for 20 s
	@./scripts/fuzz.sh 20s

golden: ## rewrite golden files; read the diff before committing
	$(GO) test ./... -run Golden -update

clean: ## remove what was built
	rm -rf bin .cache console/web/node_modules
	git clean -fdxq console/static

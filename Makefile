# The way in. The work is in CMakePresets.json and scripts/; see `make help`.

PREFIX ?= /usr/local
TP ?= 4
TOKENS ?= 56
PROMPT ?= The capital of France, and the largest city in the country, is
export TP TOKENS PROMPT

.DEFAULT_GOAL := build
.PHONY: build demo test test-gpu bench install deb docs format clean help

build: ## Build the command, build/lockstep
	@scripts/install-deps.sh build
	@cmake --preset release
	@cmake --build --preset release

demo: build ## Generate text with a real model on 4 ranks (PROMPT=..., TP=..., TOKENS=...)
	@model="$$(scripts/demo-model.sh)" && set -x && \
	build/lockstep generate -m "$$model" --tp "$$TP" --temperature 0 -p "$$PROMPT" -n "$$TOKENS"

test: ## Build and run every test
	@scripts/install-deps.sh test
	@cmake --preset dev
	@cmake --build --preset dev
	@scripts/test-assets.sh >/dev/null
	ctest --preset dev -j "$$(nproc)"

test-gpu: ## Build and run the GPU tests, on a machine with GPUs
	@scripts/test-gpu.sh

bench: ## Build and run the micro-benchmarks
	@scripts/install-deps.sh test
	@cmake --preset dev
	@cmake --build --preset dev --target bench_all
	@scripts/demo-model.sh >/dev/null
	@for program in build-dev/*_bench; do echo "$$program"; "$$program" || exit 1; done

install: build ## Install the command and the library below PREFIX (/usr/local)
	cmake --install build --prefix "$(PREFIX)"

deb: ## Make Debian packages, build-deb/*.deb
	@scripts/install-deps.sh build
	@cmake --preset deb
	@cmake --build --preset deb
	cd build-deb && cpack

docs: ## Make the reference documentation, build/docs/html/index.html
	@scripts/install-deps.sh ci
	@cmake --preset release
	@cmake --build --preset release --target docs

format: ## Format every C++ file
	@scripts/install-deps.sh ci
	@scripts/format.sh

clean: ## Remove all that was built; the fetched files in .cache stay
	rm -rf build build-deb build-dev build-asan build-tsan

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

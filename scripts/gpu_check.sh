#!/usr/bin/env bash
# Every check that needs an NVIDIA GPU, on a bare machine without a network, in stages of minutes.
#
#   scripts/gpu_check.sh pack [90]   where there are nvcc and a network: builds all that the machine
#                                    needs for that architecture into build/gpu
#   scripts/gpu_check.sh install     on the machine, in this folder with build/gpu in it
#   scripts/gpu_check.sh test        the tests marked gpu
#   scripts/gpu_check.sh measure     beside llama-server and llama-batched-bench
#   scripts/gpu_check.sh merged      without adapters, with one, with five, and five merged files
#   scripts/gpu_check.sh train       what training takes; needs torch (and bitsandbytes) there
#
# Results go to $OUT (report/gpu). PYTHON_VERSION=3.12 names the machine's Python for `pack`;
# MODEL, SLOTS and COUNT change what is measured. DEMO=no leaves the demo model out (94 MB), which
# the tests need, NUMPY=no numpy, which the machine may have.
set -euo pipefail
cd "$(dirname "$0")/.."

PACK=build/gpu
OUT=${OUT:-report/gpu}
MODEL=${MODEL:-$PACK/qwen3-1.7b-shape-Q4_K_M.gguf}
PYTHON=${PYTHON:-python3}
SITE=$PACK/site
VERSION=$(sed -n 's/ *llama-cpp-python==//p' setup.cfg)
export PYTHONPATH="$PWD/$SITE:$PWD${PYTHONPATH:+:$PYTHONPATH}"

pack() {
    local architecture=${1:-90} target
    target=${PYTHON_VERSION:-$($PYTHON -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
    make cuda CUDA_ARCHITECTURES="$architecture"
    rm -rf "$PACK"
    mkdir -p "$PACK/wheels" "$PACK/bin"
    cp build/llama/wheel/*.whl "$PACK/wheels"
    local download=(.venv-cuda/bin/python -m pip download --quiet --only-binary :all:
        --python-version "$target" --implementation cp --dest "$PACK/wheels")
    "${download[@]}" diskcache jinja2 pydantic psutil tqdm gguf pytest
    "${download[@]}" --no-deps peft accelerate # torch is too large to be carried
    if [ "${NUMPY:-yes}" = no ]; then rm "$PACK"/wheels/numpy-*; fi
    if [ "${DEMO:-yes}" != no ]; then
        .venv-cuda/bin/python -c 'from runtime.files import demo; from pathlib import Path
demo.ensure(Path("models"))'
        cp models/smollm2-135m-instruct-IQ4_NL.gguf "$PACK"
    fi
    make reference
    # For the CPU; on the machine they load the libraries of the wheel, which have CUDA.
    cmake -S .reference -B build/gpu-programs -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF \
        -DBUILD_SHARED_LIBS=ON -DCMAKE_SKIP_RPATH=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_CURL=OFF \
        -DLLAMA_OPENSSL=OFF >/dev/null
    cmake --build build/gpu-programs --target llama-server llama-batched-bench
    cp build/gpu-programs/bin/llama-server build/gpu-programs/bin/llama-batched-bench \
        build/gpu-programs/bin/libllama-common* build/gpu-programs/bin/libmtmd* "$PACK/bin" 2>/dev/null || true
    du -sh "$PACK"
}

install() {
    nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv
    rm -rf "$SITE"
    for wheel in "$PACK"/wheels/*.whl; do
        $PYTHON -m zipfile -e "$wheel" "$SITE"
    done
    if [ -f "$PACK"/smollm2-*.gguf ]; then cp "$PACK"/smollm2-*.gguf models; fi
    $PYTHON -m runtime --show-settings | tail -1
    $PYTHON -c 'from runtime.engine.cards import find_cards; print(*find_cards(), sep="\n")'
    if [ ! -f "$MODEL" ]; then
        $PYTHON -m benchmarks.shapes --out "$PACK" --adapters 0 ${TOKENIZER:+--tokenizer "$TOKENIZER"}
    fi
}

measured() { # name, arguments of benchmarks.gpu
    local libraries
    libraries=$($PYTHON -c 'import llama_cpp, pathlib; print(pathlib.Path(llama_cpp.__file__).parent / "lib")')
    export LD_LIBRARY_PATH="$libraries:$PWD/$PACK/bin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    $PYTHON -m benchmarks.gpu --model "$MODEL" --out "$OUT/$1" --count "${COUNT:-500}" "${@:2}" \
        2>&1 | tee "$OUT/$1.txt"
}

usage() {
    sed -n '2,15s/^# \{0,1\}//p' "$0"
    exit 2
}

case "${1:-}" in install | test | measure | merged | train) mkdir -p "$OUT" ;; esac
case "${1:-}" in
    pack) pack "${2:-90}" ;;
    install) install 2>&1 | tee "$OUT/install.txt" ;;
    test) $PYTHON -m pytest -m gpu -p no:cacheprovider tests 2>&1 | tee "$OUT/tests.txt" ;;
    measure)
        # shellcheck disable=SC2086
        measured measure --slots ${SLOTS:-1 16 48 128} --what bare bench ours server \
            --llama-server "$PACK/bin/llama-server" --batched-bench "$PACK/bin/llama-batched-bench"
        ;;
    merged)
        # shellcheck disable=SC2086
        measured merged --slots ${SLOTS:-48} --what ours adapters merged
        # shellcheck disable=SC2086
        measured adapter --slots ${SLOTS:-48} --what ours adapters --adapters 1
        ;;
    train)
        if ! $PYTHON -c 'import torch, transformers, peft' 2>/dev/null; then
            echo "torch, transformers and peft are not on this machine: training is not measured"
            exit 1
        fi
        if [ ! -d "$PACK/checkpoint" ]; then
            $PYTHON -m benchmarks.shapes --checkpoint "$PACK/checkpoint" \
                ${TOKENIZER:+--tokenizer "$TOKENIZER"}
        fi
        $PYTHON -m lab.training_memory --model "$PACK/checkpoint" 2>&1 | tee "$OUT/train.md"
        ;;
    *) usage ;;
esac

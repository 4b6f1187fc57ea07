#!/usr/bin/env bash
# Removes from the image's environment what the server never loads. A name that is no longer there fails the build, so
# that this list follows the packages; what is left must serve (make image-test).
set -euo pipefail
shopt -s nullglob
find "$1/bin" -mindepth 1 ! -name 'python*' -delete
cd "$1"/lib/python3.*/site-packages

# OpenVINO runs ONNX files on the processor: no GPU, no NPU, no other formats. There are no wheels for arm64.
if [ -d openvino ]; then
    rm openvino/libs/libopenvino_intel_{gpu,npu}_plugin.so openvino/libs/cache.json
    rm openvino/libs/libopenvino_{tensorflow,tensorflow_lite,pytorch,paddle,gguf}_frontend.so.*
    rm -r openvino/include openvino/cmake openvino/tools openvino/frontend/{tensorflow,pytorch,paddle}
fi
rm -r onnxruntime/{transformers,quantization,tools}
rm -r numpy/f2py

find . -type d -name tests -prune -exec rm -r {} +
find . -name '*.pyi' -delete
# Compiled here with the debug information that Python's own flags ask for.
strip --strip-debug hnswlib*.so

# The server's image. Build it with `make image`; the model folder and the catalog are mounted, not baked in. It starts
# only with TLS and keys, or the words that say that neither is meant, as here for this machine alone (docs/security.md):
#   docker run -p 127.0.0.1:50051:50051 -v $PWD/models/default:/model:ro -v lookalike-data:/data \
#     -e LOOKALIKE_INSECURE=true -e LOOKALIKE_ALLOW_ANONYMOUS=true lookalike-server:local
# For an NVIDIA GPU add `--build-arg RUNTIME=gpu` to the build and `--gpus all` to the run: CUDA comes from the registry.

ARG RUNTIME=cpu

FROM python:3.12-slim AS builder
ARG RUNTIME
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY proto ./proto
COPY server ./server
RUN if [ "$RUNTIME" = gpu ]; then make server-wheels EXTRA=gpu; else make server-wheels; fi

FROM python:3.12-slim
ARG RUNTIME
RUN --mount=type=bind,from=builder,source=/src/dist/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "lookalike-server[$RUNTIME]"
RUN useradd --create-home --uid 10001 lookalike && install --directory --owner=lookalike /data
USER lookalike
ENV LOOKALIKE_MODEL=/model LOOKALIKE_DATA_DIR=/data LOOKALIKE_LISTEN=0.0.0.0:50051 LOOKALIKE_LOG_FORMAT=json
# What a container runtime with GPUs looks for; elsewhere they are ignored.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["lookalike-server", "health"]
ENTRYPOINT ["lookalike-server"]
CMD ["serve"]

# The server's image. Build it with `make image`; the model folder and the catalog are mounted, not baked in. It starts
# only with TLS and keys, or the words that say that neither is meant, as here for this machine alone (docs/security.md):
#   docker run -p 127.0.0.1:50051:50051 -v $PWD/models/default:/model:ro -v lookalike-data:/data \
#     -e LOOKALIKE_INSECURE=true -e LOOKALIKE_ALLOW_ANONYMOUS=true lookalike-server:local
# For an NVIDIA GPU add `--build-arg RUNTIME=gpu` to the build and `--gpus all` to the run: CUDA comes from the registry.
# docs/image.md has the other arguments, what is in the image, and how it is tested.

# Any image of Debian's family with Python 3.11 or newer as python3.
ARG BASE=python:3.12-slim

FROM ${BASE} AS dependencies
ARG RUNTIME=cpu
# Debian's own Python needs python3-dev and python3-venv as well.
ARG BUILD_PACKAGES="g++ make"
RUN apt-get update && apt-get install --yes --no-install-recommends $BUILD_PACKAGES && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY server/build.lock server/requirements.lock server/requirements-gpu.lock ./server/
RUN if [ "$RUNTIME" = gpu ]; then make dependency-wheels EXTRA=gpu; else make dependency-wheels; fi
COPY deploy/image/trim.sh ./
RUN python3 -m venv --without-pip /opt/lookalike \
    && .venv-build/bin/python -m pip --python /opt/lookalike/bin/python install --no-cache-dir --no-index --no-deps dist/wheels/*.whl \
    && bash trim.sh /opt/lookalike

FROM dependencies AS builder
COPY proto ./proto
COPY server ./server
RUN rm -r dist/wheels && make own-wheels \
    && .venv-build/bin/python -m pip --python /opt/lookalike/bin/python install --no-cache-dir --no-index --no-deps \
        --prefix /ours dist/wheels/*.whl

FROM ${BASE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data lookalike \
    && install --directory --owner=lookalike --group=lookalike --mode=0700 /data
# Two layers: a new version of the server leaves the large one as it is.
COPY --from=dependencies /opt/lookalike /opt/lookalike
COPY --from=builder /ours /opt/lookalike
# A number, because Kubernetes cannot tell that a name is not root's.
USER 10001:10001
ENV PATH=/opt/lookalike/bin:$PATH
ENV LOOKALIKE_MODEL=/model LOOKALIKE_DATA_DIR=/data LOOKALIKE_LISTEN=0.0.0.0:50051 LOOKALIKE_LOG_FORMAT=json
# What a container runtime with GPUs looks for; elsewhere they are ignored.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
# Asks where LOOKALIKE_LISTEN and the other settings say that the server listens; a check costs a second of a core.
HEALTHCHECK --interval=30s --timeout=30s --start-period=120s CMD ["lookalike-server", "health"]
ENTRYPOINT ["lookalike-server"]
CMD ["serve"]

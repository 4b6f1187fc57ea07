# The server's image. Build it with `make image`; the model folder and the catalogue are mounted, not baked in:
#   docker run -p 50051:50051 -v $PWD/models/default:/model:ro -v lookalike-data:/data lookalike-server:local

FROM python:3.12-slim AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY proto ./proto
COPY server ./server
RUN make wheels

FROM python:3.12-slim
RUN --mount=type=bind,from=builder,source=/src/dist/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels 'lookalike-server[cpu]'
RUN useradd --create-home --uid 10001 lookalike && install --directory --owner=lookalike /data
USER lookalike
ENV LOOKALIKE_MODEL=/model LOOKALIKE_DATA=/data LOOKALIKE_LISTEN=0.0.0.0:50051 LOOKALIKE_LOG_FORMAT=json
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["lookalike-server", "health"]
ENTRYPOINT ["lookalike-server"]
CMD ["serve"]

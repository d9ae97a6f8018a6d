# syntax=docker/dockerfile:1
# Three images: `serve` answers HTTP and carries no trainer; `worker` consumes, imports, trains, and serves operators;
# `console` is the web console, which talks HTTP alone.
#   docker build --target serve --tag millirec:serve .
#   docker build --target worker --tag millirec:worker .
#   docker build --target console --tag millirec:console .
ARG PYTHON=3.13.7-slim-bookworm
# "@sha256:..." where `make digests` has looked it up.
ARG PYTHON_DIGEST=

FROM python:${PYTHON}${PYTHON_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
COPY requirements/bootstrap.txt requirements/
RUN pip install --quiet --require-hashes -r requirements/bootstrap.txt \
    && python -m venv --without-pip /opt/millirec
ENV VIRTUAL_ENV=/opt/millirec

FROM build AS wheel
COPY . .
RUN hatchling build -t wheel -d /dist

# Requirements come before the code, so that a change of code does not install them again.
FROM build AS build-serve
COPY requirements/serve.txt requirements/
RUN uv pip install --require-hashes --compile-bytecode -r requirements/serve.txt
COPY --from=wheel /dist /dist
RUN uv pip install --no-deps --compile-bytecode /dist/*.whl

FROM build AS build-console
COPY requirements/console.txt requirements/
RUN uv pip install --require-hashes --compile-bytecode -r requirements/console.txt
COPY --from=wheel /dist /dist
RUN uv pip install --no-deps --compile-bytecode /dist/*.whl

FROM build AS build-worker
COPY requirements/runtime.txt requirements/
RUN uv pip install --require-hashes --compile-bytecode -r requirements/runtime.txt
COPY --from=wheel /dist /dist
RUN uv pip install --no-deps --compile-bytecode /dist/*.whl

# Runs with a read-only root: all that is written goes to /var/lib/millirec (volumes) and /tmp (tmpfs).
FROM python:${PYTHON}${PYTHON_DIGEST} AS run
RUN groupadd --gid 10001 millirec \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/millirec --shell /usr/sbin/nologin millirec \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/millirec \
         /var/lib/millirec/cache /var/lib/millirec/log /var/lib/millirec/registry \
         /var/lib/millirec/rejected /var/lib/millirec/reports /var/lib/millirec/spool
ENV PATH=/opt/millirec/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    USER=millirec \
    MILLIREC_LOG__PATH=/var/lib/millirec/log \
    MILLIREC_REGISTRY__URL=/var/lib/millirec/registry \
    MILLIREC_REGISTRY__CACHE=/var/lib/millirec/cache \
    MILLIREC_INGEST__REJECTED=/var/lib/millirec/rejected \
    MILLIREC_TRAIN__REPORTS=/var/lib/millirec/reports
WORKDIR /var/lib/millirec
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["millirec"]

FROM run AS worker
# Matplotlib keeps its list of fonts here.
ENV MPLCONFIGDIR=/tmp/matplotlib
COPY --from=build-worker /opt/millirec /opt/millirec
EXPOSE 9100
CMD ["consume", "--metrics-port", "9100"]

FROM run AS console
COPY --from=build-console /opt/millirec /opt/millirec
ENV MILLIREC_CONSOLE__HOST=0.0.0.0 MILLIREC_CONSOLE__PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
CMD ["console"]

# The last stage is what `docker build .` makes.
FROM run AS serve
COPY --from=build-serve /opt/millirec /opt/millirec
# On all addresses it starts with keys only (MILLIREC_SERVE__KEYS), or with MILLIREC_SERVE__ALLOW_ANONYMOUS=true.
ENV MILLIREC_SERVE__HOST=0.0.0.0 MILLIREC_SERVE__PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["serve"]

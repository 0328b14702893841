# Two stages: the first installs what is locked, the second has neither pip nor a compiler.
# Any image of the Debian family will do that has Python 3.11 or later with its module venv.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# requirements-extras.txt is the same and what parquet, lz4 and OpenTelemetry need.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} /build/requirements.txt
# Compiled here, since the pod's root file system is read-only; what nobody replaces is not compared
# with its source again.
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
        --only-binary :all: --require-hashes --no-deps -r /build/requirements.txt \
    && /opt/venv/bin/python -m pip uninstall --yes --quiet setuptools pip \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
COPY app /srv/app
COPY handlers /srv/handlers
# Handlers are compared: an image made FROM this one brings its own.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /srv/app \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode checked-hash /srv/handlers

FROM ${BASE}
# Some bases come without the standard library's bytecode; all come with something to install
# packages with. The user is named because some libraries look themselves up.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* \
        /usr/lib/python3/dist-packages/pip* /usr/share/python-wheels \
        /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip \
    && python3 -m compileall -q -j 0 -x '/tests?/' --invalidation-mode unchecked-hash \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && useradd --no-log-init --uid 10001 --user-group --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin worker
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv /srv
WORKDIR /srv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Exec form: Python itself is process 1 and gets the signals.
ENTRYPOINT ["/opt/venv/bin/python", "-m", "app"]
CMD ["run"]
# Last, since they change with every commit.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="sqs-file-processor" \
      org.opencontainers.image.description="Processes large S3 objects, one SQS message a pod, on KEDA" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

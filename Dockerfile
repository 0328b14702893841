# syntax=docker/dockerfile:1
# Two stages: the first installs the locked requirements, the second has neither pip nor a compiler.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/venv
COPY requirements.txt .
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps -r requirements.txt \
    && /opt/venv/bin/python -m pip uninstall --yes pip
COPY app /opt/app/app
COPY handlers /opt/app/handlers
# Compiled here, since the pod's root file system is read-only. What nobody replaces is not looked
# at again; handlers are left to be compiled, since an image made FROM this one brings its own.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/venv/lib /opt/app/app

FROM ${BASE}
LABEL org.opencontainers.image.title="sqs-file-processor" \
      org.opencontainers.image.description="Processes large S3 objects, one SQS message a pod, on KEDA" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/app /srv
WORKDIR /srv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Exec form: Python itself is process 1 and gets the signals.
ENTRYPOINT ["/opt/venv/bin/python", "-m", "app"]
CMD ["run"]

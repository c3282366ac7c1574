# Two stages: pip is left behind in the first, so the image has Python, what the gateway runs on, and the gateway.
FROM python:3.11.14-slim-bookworm AS packages
WORKDIR /build
COPY requirements.txt ./
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --only-binary :all: -r requirements.txt

FROM python:3.11.14-slim-bookworm
RUN pip uninstall --yes pip setuptools wheel \
    && useradd --system --no-create-home --shell /usr/sbin/nologin --uid 10001 switchboard
COPY --from=packages /venv /venv
WORKDIR /app
COPY --chown=root:root LICENSE ./
COPY --chown=root:root switchboard_operator ./switchboard_operator
COPY --chown=root:root web_client ./web_client
RUN /venv/bin/python -m compileall -q switchboard_operator
USER 10001
ENV PATH=/venv/bin:$PATH
EXPOSE 5555
# /live, not /ready: a container is not to be restarted because Redis is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; e = os.environ.get; u.urlopen('http://127.0.0.1:' + (e('SWITCHBOARD_PORT') or e('PORT') or '5555') + '/live', timeout=2)"]
# It takes up to 20 s to end without losing anything: `docker stop --time 25`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "switchboard_operator"]
CMD ["run"]

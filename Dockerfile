# docker build -t ml-log-gateway . && docker run -p 5001:5001 -p 8080:8080 -v gateway-data:/data ml-log-gateway
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
COPY gateway_client ./gateway_client
COPY enrichers ./enrichers
COPY schemas ./schemas
RUN python -m venv --without-pip /opt/gateway
RUN pip --python /opt/gateway install --no-cache-dir --disable-pip-version-check .

FROM python:3.13-slim
COPY --from=build /opt/gateway /opt/gateway
# Nothing but /data is written, so that the rest may be read-only. A settings file is read from the working directory:
# -v ./gateway.yaml:/etc/gateway/gateway.yaml:ro
RUN mkdir -p /data /etc/gateway && chown 10001:10001 /data
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_TCP__HOST=0.0.0.0 \
    GATEWAY_HTTP__HOST=0.0.0.0 \
    GATEWAY_DATA_DIR=/data
WORKDIR /etc/gateway
USER 10001:10001
VOLUME /data
EXPOSE 5001 5002 8080
STOPSIGNAL SIGTERM
# Asked where the settings say that it listens, with TLS where they say so.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["python", "-c", "from gateway.cli.ask import ask, connect; from gateway.configuration import load; ask(connect(load(), timeout_secs=5), 'GET', '/health')"]
ENTRYPOINT ["gateway"]
CMD ["serve"]

# IOTA: one image for the site, the workers, beat and commands; deploy/entrypoint.sh says which.
#   docker build --tag iota:0.1.0 .

ARG PYTHON=3.11.15-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /app
COPY requirements.txt requirements-otel.txt ./
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check \
    --requirement requirements.txt --requirement requirements-otel.txt
COPY . .
# Whatever the checkout's umask was.
RUN chmod -R a+rX .
# The settings ask for secrets; these are of this one line, and in no file of the image.
RUN SECRET_KEY=of-this-line-only-of-this-line-only IOTA_IDENTITY_KEY=and-another-of-this-line-only-also \
    ALLOWED_HOSTS=localhost /venv/bin/python manage.py collectstatic --noinput --verbosity 0

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin iota
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=iota.settings \
    GRANIAN_HOST=0.0.0.0 \
    GRANIAN_PORT=8000
# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/app/deploy/healthcheck.py"]
ENTRYPOINT ["/app/deploy/entrypoint.sh"]
CMD ["web"]

# A CPU image with everything that requirements.lock pins; `docker run IMAGE` prints what is installed.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
# The environment is made at the place where it will be used; the package itself is installed from a wheel, not a link.
RUN python tools/setup_environment.py /opt/d2_cxr \
    && /opt/d2_cxr/bin/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .

FROM python:3.12-slim
COPY --from=build /opt/d2_cxr /opt/d2_cxr
RUN useradd --create-home --uid 1000 reader
USER reader
WORKDIR /home/reader
ENV PATH=/opt/d2_cxr/bin:$PATH DETECTRON2_DATASETS=/data PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT ["d2cxr"]
CMD ["doctor"]

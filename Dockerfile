# One image for the laptop, the team server and the cluster: docs/deploy.md.
ARG BASE_IMAGE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime

# Builds the wheel and the environment. Nothing that is only needed here reaches the image, mirrors
# that were named as arguments included: arguments stay in the history of the stage that uses them.
FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL=""
ARG PIP_EXTRA_INDEX_URL=""
ARG APT_MIRROR=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY nlpkit nlpkit
COPY plugins plugins
COPY jobs jobs
COPY image/kept.py image/kept.py
# The base's torch, torchvision and torchaudio stay: they are made for its CUDA.
RUN echo "${APT_MIRROR}" > /apt-mirror \
    && python="$(command -v python3)" \
    && "${python}" image/kept.py constraints.txt > /constraints.txt \
    && "${python}" -m venv --without-pip --system-site-packages /opt/nlpkit \
    && "${python}" -m pip wheel --quiet --no-deps --wheel-dir /wheels . \
    && "${python}" -m pip --python /opt/nlpkit/bin/python install --quiet --ignore-installed pip \
    && /opt/nlpkit/bin/python -m pip install --quiet --constraint /constraints.txt \
        "$(ls /wheels/*.whl)[all]" jupyterlab matplotlib pandas \
    && grep -E '^(torch|torchvision|torchaudio)==' /constraints.txt > /opt/nlpkit/constraints.txt
COPY image/nlpkit_image /opt/nlpkit/image/nlpkit_image
COPY jobs/head.sh jobs/worker.sh /opt/nlpkit/jobs/
COPY nlpkit/commands/starter/starter.ipynb /opt/nlpkit/share/
RUN site="$(/opt/nlpkit/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && echo /opt/nlpkit/image > "${site}/nlpkit_image.pth" \
    && /opt/nlpkit/bin/python -m compileall -q /opt/nlpkit/image

FROM ${BASE_IMAGE}
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="nlpkit" \
      org.opencontainers.image.description="Train Transformer NLP models: Jupyter Lab, SSH, training, Ray" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Versions are those of whichever distribution the base is made of.
# hadolint ignore=DL3008
RUN --mount=type=bind,from=build,source=/apt-mirror,target=/apt-mirror \
    mirror="$(cat /apt-mirror)" \
    && cp -a /etc/apt /etc/apt.kept \
    && if [ -n "${mirror}" ]; then \
        find /etc/apt \( -name '*.list' -o -name '*.sources' \) -exec sed -i -E \
            "s#https?://((archive|security)\.ubuntu\.com|(deb|security)\.debian\.org)#${mirror}#" {} +; \
    fi \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates curl git openssh-server procps tar tini tmux wget \
    && rm -rf /etc/apt && mv /etc/apt.kept /etc/apt \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /etc/ssh/ssh_host_* \
    && useradd --non-unique --uid 1000 --create-home --shell /bin/bash --password '*' nlp \
    && mkdir -p /workspace/{data/{raw,processed},models/{runs,final,hub},notebooks} /etc/nlpkit/ssh \
    && chown -R nlp:nlp /workspace \
    && chmod -R a+rwX /workspace
COPY --from=build /opt/nlpkit /opt/nlpkit
ENV PATH=/opt/nlpkit/bin:${PATH} \
    PIP_CONSTRAINT=/opt/nlpkit/constraints.txt \
    NLPKIT_WORKSPACE=/workspace \
    HF_HUB_CACHE=/workspace/models/hub \
    ORT_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_USAGE_STATS_REPORT_URL=none
# A login shell sets PATH anew, before it reads this.
RUN echo "export PATH=\"${PATH}\"" > /etc/profile.d/nlpkit.sh
WORKDIR /workspace
EXPOSE 22 6006 8265 8888
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/opt/nlpkit/bin/python", "-P", "-m", "nlpkit_image.health"]
# Nothing is imported from the working directory (-P), where people may write.
# Root starts sshd and gives up its rights for all else; `--user` works too.
ENTRYPOINT ["tini", "-s", "--", "/opt/nlpkit/bin/python", "-P", "-m", "nlpkit_image"]
CMD ["workspace"]

# docker build -t fusion . ; docker run -v "$PWD/reports:/suite/reports" fusion ; docker run fusion make test
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /suite
COPY requirements.lock pyproject.toml README.md LICENSE Makefile ./
COPY fusionlib fusionlib
RUN make install
COPY . .
CMD ["make", "reproduce"]

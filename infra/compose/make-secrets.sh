#!/bin/sh
# Writes ./secrets with random values for compose.yaml; what is there already stays.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
put() { [ -s "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"; }

put postgres_password "$(random)"
put prefect_password "$(random)"
put prefect_auth "admin:$(cat secrets/prefect_password)"
put grafana_password "$(random)"
put ray_token "$(random)"
put digitize_uploads_push_token "$(random)"
put digitize_s3_access_key_id "digitize"
put digitize_s3_secret_access_key "$(random)"
put digitize_database_url "postgresql+pg8000://digitize:$(cat secrets/postgres_password)@postgres:5432/digitize"
put s3.env "CEPH_DEMO_ACCESS_KEY=$(cat secrets/digitize_s3_access_key_id)
CEPH_DEMO_SECRET_KEY=$(cat secrets/digitize_s3_secret_access_key)
"
# The containers' user (10001) reads them as files: on a shared machine give them to it instead
chmod 755 secrets
chmod 644 secrets/*

#!/usr/bin/env bash
# The MLflow server of a team, in the foreground: Postgres behind it, artifacts in S3 through it, a password before it.
# It answers on this machine alone until it is told otherwise. infra/mlflow/README.md says how to set one up.
#
#   MLFLOW_BACKEND_STORE_URI      postgresql://USER:PASSWORD@HOST/DATABASE: runs, registry, users
#   MLFLOW_ARTIFACTS_DESTINATION  s3://BUCKET[/PATH]. Only this server has the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
#                                 AWS_ENDPOINT_URL for an S3 that is not Amazon's)
#   MLFLOW_AUTH_ADMIN_PASSWORD    of the user "admin", 12 characters or more; read at the first start alone
#   MLFLOW_HOST, MLFLOW_PORT      where it listens: 127.0.0.1, 5000
#   MLFLOW_SERVER_ALLOWED_HOSTS   how browsers and trainings may call it, with the port, by commas; needed with MLFLOW_HOST
#   MLFLOW_WORKERS                processes, about 400 MiB each: 2
#
# LANGEVIN_HOME/mlflow/server (the working directory without) keeps its own secrets, for its owner's eyes alone.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
python=${PYTHON:-$root/.venv/bin/python}

fail() { # FIELD PROBLEM
    printf 'langevin: %s: %s\n' "$1" "$2" >&2
    exit 2
}

database=${MLFLOW_BACKEND_STORE_URI:-}
artifacts=${MLFLOW_ARTIFACTS_DESTINATION:-}
host=${MLFLOW_HOST:-127.0.0.1}
port=${MLFLOW_PORT:-5000}
[[ $database =~ ^postgresql(\+psycopg)?:// ]] ||
    fail MLFLOW_BACKEND_STORE_URI "is not a Postgres database; give postgresql://USER:PASSWORD@HOST/DATABASE"
[[ $artifacts =~ ^s3://[^/]+ ]] || fail MLFLOW_ARTIFACTS_DESTINATION "is not a place in S3; give s3://BUCKET or s3://BUCKET/PATH"
if [[ -z ${MLFLOW_SERVER_ALLOWED_HOSTS:-} ]]; then
    [[ $host == 127.0.0.1 || $host == localhost ]] || fail MLFLOW_SERVER_ALLOWED_HOSTS \
        "is needed to listen on $host; give the names by which it is called, such as mlflow.example.org:$port"
    # a page of another site that resolves its name to 127.0.0.1 is refused
    export MLFLOW_SERVER_ALLOWED_HOSTS=127.0.0.1:$port,localhost:$port
fi
[[ -x $python ]] || fail PYTHON "$python is not there; run make environment"

state=${LANGEVIN_HOME:-$PWD}/mlflow/server
umask 077
mkdir -p "$state"
[[ -s $state/secret ]] || head -c 32 /dev/urandom | base64 >"$state/secret" # it signs the forms of the UI

# EDIT: whoever has a password reports to every experiment and registers versions of every model, because a recipe's name is
# its experiment's for all who train it. Deleting and giving rights away are left to its maker and to admin.
cat >"$state/basic_auth.ini" <<END
[mlflow]
default_permission = EDIT
database_uri = ${database//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END

"$python" - "$artifacts" <<'END'
"""Tries all that would fail only later, in the middle of somebody's training."""

import importlib.util
import os
import sys
from urllib.parse import urlsplit


def fail(field: str, problem: object) -> None:
    print(f"langevin: {field}: {' '.join(str(problem).split())[:300]}", file=sys.stderr)
    sys.exit(2)


for module in ("mlflow", "psycopg", "boto3", "flask_wtf"):
    if importlib.util.find_spec(module) is None:
        fail(module, "is not installed; run make environment, or pip install 'langevin[server]'")

import boto3
import sqlalchemy
from botocore.exceptions import BotoCoreError, ClientError

engine = sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])
try:
    with engine.connect() as connection:
        users = sqlalchemy.inspect(connection).has_table("users")
        known = users and connection.execute(sqlalchemy.text("SELECT count(*) FROM users")).scalar()
except sqlalchemy.exc.SQLAlchemyError as error:
    fail("MLFLOW_BACKEND_STORE_URI", error.__cause__ or error)
if not known and len(os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD", "")) < 12:
    fail("MLFLOW_AUTH_ADMIN_PASSWORD", "is needed at the first start, with 12 characters or more")
bucket = urlsplit(sys.argv[1]).netloc
try:
    boto3.client("s3").head_bucket(Bucket=bucket)
except (BotoCoreError, ClientError) as error:
    fail("MLFLOW_ARTIFACTS_DESTINATION", f"bucket {bucket} cannot be used: {error}")
END

export MLFLOW_AUTH_CONFIG_PATH=$state/basic_auth.ini
export MLFLOW_FLASK_SERVER_SECRET_KEY=${MLFLOW_FLASK_SERVER_SECRET_KEY:-$(<"$state/secret")}
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false} # processes for what nothing here uses
export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true} DO_NOT_TRACK=${DO_NOT_TRACK:-true}
echo "MLflow: http://$host:$port" >&2
# passwords travel in the environment, which only the owner can read, and not in the arguments, which everybody can
exec "$python" -m mlflow server --app-name basic-auth --host "$host" --port "$port" --workers "${MLFLOW_WORKERS:-2}"

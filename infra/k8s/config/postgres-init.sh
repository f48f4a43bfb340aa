#!/bin/sh
# One role and one database per service, no superuser for either, nothing created in `public` by strangers.
# Run once by the postgres image on an empty data folder; shared by compose and Kubernetes.
set -eu
make_database() { # make_database NAME PASSWORD; the password reaches psql as a variable, so quoting is psql's
    psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" <<'SQL'
create role :"name" login nosuperuser nocreatedb nocreaterole password :'password';
create database :"name" owner :"name";
revoke all on database :"name" from public;
SQL
    psql --username "$POSTGRES_USER" --dbname "$1" --set ON_ERROR_STOP=1 --set name="$1" <<'SQL'
revoke create on schema public from public;
grant all on schema public to :"name";
SQL
}
make_database mlflow "$MLFLOW_DB_PASSWORD"
make_database prefect "$PREFECT_DB_PASSWORD"
psql --username "$POSTGRES_USER" --dbname prefect --set ON_ERROR_STOP=1 --command 'create extension if not exists pg_trgm'

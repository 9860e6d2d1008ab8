-- +goose Up
-- Who may sign in. A name is never used twice: users are disabled, not deleted.
CREATE TABLE people_users (
    org        TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    full_name  TEXT   NOT NULL,
    roles      TEXT   NOT NULL, -- JSON list
    disabled   BIGINT NOT NULL,
    password   TEXT   NOT NULL, -- PHC string
    generation BIGINT NOT NULL,
    seen       TEXT   NOT NULL,
    PRIMARY KEY (org, name)
);

CREATE TABLE people_sessions (
    org     TEXT NOT NULL,
    key     TEXT NOT NULL, -- hash of the cookie
    data    BLOB NOT NULL,
    expires TEXT NOT NULL,
    seen    TEXT NOT NULL,
    PRIMARY KEY (org, key)
);

CREATE TABLE people_tokens (
    org     TEXT NOT NULL,
    id      TEXT NOT NULL,
    name    TEXT NOT NULL,
    owner   TEXT NOT NULL,
    scopes  TEXT NOT NULL, -- JSON list
    expires TEXT NOT NULL,
    hash    TEXT NOT NULL, -- of the secret, which is not kept
    PRIMARY KEY (org, id)
);
CREATE UNIQUE INDEX people_tokens_by_hash ON people_tokens (org, hash);

-- At most one row per organisation: the first administrator's one-time link.
CREATE TABLE people_setup (
    org     TEXT NOT NULL,
    hash    TEXT NOT NULL,
    expires TEXT NOT NULL,
    PRIMARY KEY (org)
);

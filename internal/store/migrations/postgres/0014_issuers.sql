-- +goose Up
-- Generations of the issuing CAs. A time is empty until it comes; ended_at is
-- when nothing of the generation is accepted any more.
CREATE TABLE pki_issuers (
    org          TEXT   NOT NULL,
    issuer       TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    key_id       TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    certificate  TEXT   NOT NULL,
    staged_at    TEXT   NOT NULL,
    published_at TEXT   NOT NULL DEFAULT '',
    active_at    TEXT   NOT NULL DEFAULT '',
    draining_at  TEXT   NOT NULL DEFAULT '',
    ended_at     TEXT   NOT NULL DEFAULT '',
    changed_by   TEXT   NOT NULL,
    reason       TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (org, issuer, generation),
    UNIQUE (org, key_id)
);

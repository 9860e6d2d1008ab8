-- +goose Up
-- One row per declared thing, doc is its JSON; a version counts replacements of
-- the whole.
CREATE TABLE inventory_rows (
    org  TEXT NOT NULL,
    noun TEXT NOT NULL,
    id   TEXT NOT NULL,
    doc  TEXT NOT NULL,
    PRIMARY KEY (org, noun, id)
);
CREATE TABLE inventory_versions (
    org     TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);

-- Revisions and approvals are append-only.
CREATE TABLE revisions (
    org       TEXT   NOT NULL,
    number    BIGINT NOT NULL,
    author    TEXT   NOT NULL,
    at        TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    hash      TEXT   NOT NULL,
    key_id    TEXT   NOT NULL,
    signature BYTEA  NOT NULL,
    content   TEXT   NOT NULL,
    envelope  TEXT   NOT NULL,
    PRIMARY KEY (org, number)
);
CREATE TABLE approvals (
    org       TEXT   NOT NULL,
    revision  BIGINT NOT NULL,
    n         BIGINT NOT NULL,
    hash      TEXT   NOT NULL,
    approver  TEXT   NOT NULL,
    at        TEXT   NOT NULL,
    expires   TEXT   NOT NULL,
    comment   TEXT   NOT NULL,
    key_id    TEXT   NOT NULL,
    signature BYTEA  NOT NULL,
    PRIMARY KEY (org, revision, n),
    FOREIGN KEY (org, revision) REFERENCES revisions (org, number)
);
CREATE TRIGGER revisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON revisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER approvals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON approvals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
